"""Real short runs (benchmarks/diagnosis_runs.py), kept in curves.json.xz, as files of every format that is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.diagnosis import packed
from ftdsl.runtime import events

Rows = list[dict[str, Any]]


@cache
def kept() -> dict[str, dict[str, Any]]:
    """File (`overfit/1.json`) -> its document."""
    return {file: document for runs in packed().values() for file, document in runs}


def in_order(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of training and evaluation as they were logged."""
    rows: Rows = [*document["steps"], *document["evals"]]
    yield from sorted(rows, key=lambda row: (row["step"], "eval_loss" in row))


def trainer_state(document: dict[str, Any]) -> str:
    rows = [
        {"learning_rate" if key == "lr" else key: _number(value) for key, value in row.items()}
        for row in in_order(document)
    ]
    return json.dumps({"global_step": rows[-1]["step"], "log_history": rows})


def trainer_log(document: dict[str, Any]) -> str:
    """LLaMA-Factory's: no gradient norms."""
    lines = []
    for row in in_order(document):
        kept = {key: _number(row[key]) for key in ("loss", "eval_loss", "lr", "epoch") if row.get(key) is not None}
        lines.append(json.dumps({"current_steps": row["step"], "total_steps": 1000, **kept, "elapsed_time": "0:00:01"}))
    return "\n".join(lines) + "\n"


def metrics(document: dict[str, Any]) -> str:
    """Ours."""
    lines = [events.line(events.made("attempt"))]
    for row in in_order(document):
        if "eval_loss" in row:
            lines.append(
                events.line(events.made("eval", step=row["step"], metrics={"loss": _number(row["eval_loss"])}))
            )
        else:
            named = {key: _number(row.get(key)) for key in ("epoch", "loss", "lr", "grad_norm")}
            lines.append(events.line(events.made("step", step=row["step"], total_steps=1000, **named)))
    lines.append(events.line(events.made("end", ok=True)))
    return b"".join(lines).decode()


def printed(document: dict[str, Any]) -> str:
    """The Trainer's dictionaries as transformers 5 prints them, with a progress bar."""
    lines, total = [], document["steps"][-1]["step"]
    for row in in_order(document):
        if "eval_loss" in row:
            lines.append(str({"eval_loss": str(row["eval_loss"]), "eval_runtime": "0.1"}))
        else:
            lines.append(f"\r {row['step']}%|##   | {row['step']}/{total} [00:10<00:50,  1.20it/s]")
            names = {"loss": "loss", "grad_norm": "grad_norm", "lr": "learning_rate", "epoch": "epoch"}
            lines.append(str({name: str(row[key]) for key, name in names.items() if row.get(key) is not None}))
    return "[INFO|trainer.py:1] ***** Running training *****\n" + "\n".join(lines) + "\n"


def megatron(document: dict[str, Any]) -> str:
    lines = []
    for row in document["steps"]:
        lines.append(f" iteration {row['step']:8}/    1000 | consumed samples: 8 | learning rate: {_number(row['lr']):.6E} |"
                     f" lm loss: {_number(row['loss']):.6E} | grad norm: {_number(row['grad_norm']):.3f} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


FORMATS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "trainer_state": ("trainer_state.json", trainer_state),
    "trainer_log": ("trainer_log.jsonl", trainer_log),
    "metrics": ("metrics.jsonl", metrics),
    "printed": ("train.log", printed),
    "megatron": ("megatron.log", megatron),
}


def write(folder: Path, run: str, kind: str) -> Path:
    """A kept run as a file of one format."""
    name, made = FORMATS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(made(kept()[run]), encoding="utf-8")
    return path
