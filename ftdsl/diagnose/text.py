"""Curves out of text that a trainer printed: the Trainer's dictionaries, Megatron's rows, lines with `step` and `loss`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ftdsl.diagnose.curves import Curves, Series

_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf|NaN|Infinity)"
_ROW = re.compile(r"\{(?=[^{}]{0,2000}['\"](?:eval_)?loss['\"])[^{}]{1,2000}\}")
"""The Trainer prints `{'loss': 0.5, 'grad_norm': 1.0, 'learning_rate': 1e-05, 'epoch': 0.1}`; 5.x quotes the numbers."""
_ITEM = re.compile(rf"['\"]([\w/.@-]+)['\"]\s*:\s*['\"]?({_NUMBER})['\"]?\s*[,}}]")
_BAR = re.compile(r"(?:\||\s)(\d+)/(\d+) \[[^\]\n]{3,60}\]")
"""A progress bar: `12%|#2 | 12/100 [00:10<01:13,  1.20it/s]`."""
_MEGATRON = re.compile(r"iteration\s+(\d+)/\s*\d+")
_STEP = re.compile(r"\b(?:global_)?(?:step|iter(?:ation)?)\b[\s:=#]*(\d+)", re.IGNORECASE)
_KNOWN = {
    "lm loss": "loss", "train loss": "loss", "val loss": "eval_loss", "validation loss": "eval_loss",
    "eval loss": "eval_loss", "grad norm": "grad_norm", "gradient norm": "grad_norm", "learning rate": "learning_rate",
    "lr": "learning_rate", "loss": "loss", "epoch": "epoch",
}  # fmt: skip
_NAMED = "|".join(name.replace(" ", "[_ ]") for name in sorted(_KNOWN, key=len, reverse=True))
_FIELD = re.compile(rf"\b({_NAMED})\b[\s:=]+({_NUMBER})", re.IGNORECASE)


def curves_of_text(text: str, source: str, config: Mapping[str, Any]) -> Curves:
    """What a log tells of one training. Steps come from progress bars where there are some, else rows are counted."""
    rows = _dictionaries(text)
    if not rows:
        rows = _lines(text)
    loss, evals = Series(), Series()
    more: dict[str, Series] = {}
    for step, row in rows:
        for name, value in row.items():
            target = loss if name == "loss" else evals if name == "eval_loss" else None
            if target is None:
                if name.startswith(("eval_", "train_")):
                    continue
                target = more.setdefault(name, Series())
            target.add(step, value)
    return Curves(source, loss, evals, more, config)


def _dictionaries(text: str) -> list[tuple[int, dict[str, float]]]:
    """The Trainer's rows, each at the step of the last bar before it, or of its number times the usual distance."""
    rows: list[tuple[int, dict[str, float]]] = []
    bars = [(bar.start(), int(bar[1]), int(bar[2])) for bar in _BAR.finditer(text)]
    total = max((whole for _, _, whole in bars), default=0)
    steps = [(at, step) for at, step, whole in bars if whole == total]  # bars of evaluation are shorter
    at_bar, step_now, count = 0, 0, 0
    for match in _ROW.finditer(text):
        row = {name: float(value) for name, value in _ITEM.findall(match[0])}
        while at_bar < len(steps) and steps[at_bar][0] < match.start():
            step_now = steps[at_bar][1]
            at_bar += 1
        if "loss" in row:
            count += 1
        if "loss" in row or "eval_loss" in row:
            rows.append((step_now, row))
    seen = [step for step, row in rows if "loss" in row]
    if len(set(seen)) < 0.9 * len(seen) or seen != sorted(seen):  # no bars, or bars that do not tell steps apart
        return _counted(rows)
    return rows


def _counted(rows: list[tuple[int, dict[str, float]]]) -> list[tuple[int, dict[str, float]]]:
    count, counted = 0, []
    for _, row in rows:
        count += "loss" in row
        counted.append((max(count, 1), row))
    return counted


def _lines(text: str) -> list[tuple[int, dict[str, float]]]:
    """Rows of other trainers: a step and a loss on one line."""
    rows = []
    for line in text.splitlines():
        if "oss" not in line or len(line) > 5000 or line.startswith("{"):
            continue
        step = _MEGATRON.search(line) or _STEP.search(line)
        if step is None or len(step[1]) > 15:
            continue
        row = {_KNOWN[name.lower().replace("_", " ")]: float(value) for name, value in _FIELD.findall(line)}
        if "loss" in row or "eval_loss" in row:
            rows.append((int(step[1]), row))
    return rows
