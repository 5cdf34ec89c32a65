"""The same trainings as other programs would have logged them: averaged over steps, without columns, cut short, resumed.

A Trainer that logs each k-th step prints the mean loss of those k steps, and the gradient norm and the rate of the last one: a
run that was logged at every step holds what it would have printed with any k.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Document = dict[str, Any]
Row = dict[str, Any]
LEAST = 8
"""Logged values that are left of a run: of fewer nobody could read anything, and the variant is left out."""


def number(value: Any) -> Any:
    """Numbers that are none are kept as text."""
    return float(value) if isinstance(value, str) else value


def averaged(document: Document, over: int) -> Document:
    """As with `logging_steps = over`."""
    rows, losses = [], []
    averages = ("loss", *(name for name in document["steps"][-1] if name.startswith(("rewards/", "logps/"))))
    for row in document["steps"]:
        losses.append(row)
        if row["step"] % over == 0:
            means = {name: _mean([number(own.get(name)) for own in losses]) for name in averages}
            rows.append({**row, **means})
            losses = []
    config = {**document["config"], "logging_steps": over} if document["config"] else {}
    return {**document, "steps": rows, "config": config}


def _mean(values: list[Any]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None


def without(document: Document, *names: str) -> Document:
    """Without some columns; `config` is the engine's parameters, `evals` the evaluations."""
    rows = [{name: value for name, value in row.items() if name not in names} for row in document["steps"]]
    kept = {"config": {}} if "config" in names else {}
    kept |= {"evals": []} if "evals" in names else {}
    return {**document, "steps": rows, **kept}


def scaled(document: Document) -> Document:
    """As fp16 begins: the scaler's first steps overflow, are skipped, and have a norm that is no number."""
    rows = [
        {**row, "grad_norm": "inf"} if row["step"] <= 3 and row.get("grad_norm") else row for row in document["steps"]
    ]
    return {**document, "steps": rows}


def rounded(document: Document) -> Document:
    """As printed with two digits after the point."""
    rows = [{**row, "loss": round(number(row["loss"]), 2)} for row in document["steps"]]
    return {**document, "steps": rows}


VARIANTS: dict[str, Callable[[Document], Document]] = {
    "as logged": lambda document: document,
    "mean of 2 steps": lambda document: averaged(document, 2),
    "mean of 5 steps": lambda document: averaged(document, 5),
    "mean of 10 steps": lambda document: averaged(document, 10),
    "mean of 20 steps": lambda document: averaged(document, 20),
    "mean of 50 steps": lambda document: averaged(document, 50),
    "no gradient norm": lambda document: without(document, "grad_norm"),
    "no parameters": lambda document: without(document, "config"),
    "no evaluation": lambda document: without(document, "evals"),
    "two digits": rounded,
    "fp16": scaled,
    "loss and step alone": lambda document: without(document, "config", "grad_norm", "lr", "elapsed", "epoch"),
    "mean of 5, no parameters": lambda document: without(averaged(document, 5), "config"),
    "mean of 10, no gradient norm": lambda document: without(averaged(document, 10), "grad_norm"),
}
LOST: dict[str, frozenset[str]] = {
    "no gradient norm": frozenset(("clipped", "frozen", "oscillate", "underfit")),
    "no parameters": frozenset(("clipped",)),
    "no evaluation": frozenset(("overfit", "overfit_map", "label_noise", "leak")),
    "loss and step alone": frozenset(
        ("clipped", "frozen", "oscillate", "underfit", "lr_ends", "slower", "memory", "sawtooth", "memorised", "leak")
    ),
    "mean of 5, no parameters": frozenset(("clipped",)),
    "mean of 10, no gradient norm": frozenset(("clipped", "frozen", "oscillate", "underfit", "explode")),
}
"""Variant -> conditions of which it holds no trace: what shows them is the column that is missing."""


def variant(name: str, document: Document) -> Document | None:
    """A run as it would have been logged; None where too little is left of it."""
    made = VARIANTS[name](document)
    return made if len(made["steps"]) >= LEAST or name == "as logged" else None
