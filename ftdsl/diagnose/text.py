"""Curves out of text that a trainer printed: dictionaries of the Trainer, rows of Megatron, lines with step and loss, tables."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ftdsl.diagnose.curves import Curves, Series
from ftdsl.diagnose.names import STEPS, canonical, in_bytes

_NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?|nan|inf|NaN|Infinity|Inf)"
_ROW = re.compile(r"\{(?=[^{}]{0,2000}['\"](?:\w+/)?(?:\w+_)?loss['\"])[^{}]{1,2000}\}")
"""The Trainer prints `{'loss': 0.5, 'grad_norm': 1.0, 'learning_rate': 1e-05, 'epoch': 0.1}`; 5.x quotes the numbers."""
_ITEM = re.compile(rf"['\"]([\w/.@() -]+)['\"]\s*:\s*['\"]?({_NUMBER})(?:/\d+)?['\"]?\s*[,}}]")
"""A name and its number; `5/100` is a step of so many."""
_BAR = re.compile(r"(?:\||\s)(\d+)/(\d+) \[(?:(?:(\d+):)?(\d+):(\d\d)<)?[^\]\n]{3,200}\]")
"""A progress bar: `12%|#2 | 12/100 [00:10<01:13,  1.20it/s]`, also with values behind the speed. Its time is that since the
start."""
_MEGATRON = re.compile(r"iteration\s+(\d+)/\s*\d+")
_STEP = re.compile(
    r"\b(?:global_|train_|optimizer[ _])?(?:steps?|iter(?:ation)?|update|it)\b[\s:=#\[|]*(\d+)|\[\s*(\d+)/\d+\]",
    re.IGNORECASE,
)
_WANTED = (
    r"(?:(?:train(?:ing)?|val(?:id(?:ation)?)?|eval(?:uation)?|test|held[ _-]?out|lm|total|mean|avg|average|ce|reduced)[ _/])*"
    r"loss(?:[ _/](?:train|val|valid|validation|eval)\b)?"
    r"|(?:total[ _]|global[ _])?grad(?:ient)?[ _-]?norm|gnorm|learning[ _-]rate|lr|epoch|memory|tps|step_time|iter_time"
    r"|samples(?:_per_|/)sec(?:ond)?|tok(?:en)?s?(?:_per_|/)s(?:ec(?:ond)?)?(?:_per_gpu)?"
    r"|elapsed time per iteration \(m?s\)|train_step_timing(?: in s)?|iter time \(m?s\)"
    r"|(?:peak_|gpu_|max_)?mem(?:ory)?(?:_(?:active|alloc(?:ated)?|reserved|used))?"
)
_FIELD = re.compile(rf"(?<![\w/.-])({_WANTED})(?!\w)[\s:=|]{{1,6}}({_NUMBER})(?![\d.])", re.IGNORECASE)
_SPLIT = re.compile(r"(loss) (\w+)", re.IGNORECASE)
_DECORATED = re.compile(r"\x1b\[[0-9;]*m")
LONGEST = 5000
"""Characters of a line, of longer ones nothing is read."""


def curves_of_text(text: str, source: str, config: Mapping[str, Any]) -> Curves:
    """What a log tells of one training. Steps come from the rows or from progress bars where they say them, else rows are
    counted.
    """
    text = _DECORATED.sub("", text)
    rows = _dictionaries(text) or _table(text) or _lines(text)
    loss, evals = Series(), Series()
    more: dict[str, Series] = {}
    for step, row in rows:
        for name, value in row.items():
            if name == "loss":
                loss.add(step, value)
            elif name == "eval_loss":
                evals.add(step, value)
            else:
                more.setdefault(name, Series()).add(step, in_bytes(value) if name == "memory" else value)
    return Curves(source, loss, evals, more, config)


Rows = list[tuple[int, dict[str, float]]]


def _float(text: str) -> float:
    return float(text.replace(",", "") if "," in text else text)


def _dictionaries(text: str) -> Rows:
    """Dictionaries with a loss, each at its own step, or at that of the last bar before it, or at its number."""
    rows: Rows = []
    bars = [(bar.start(), int(bar[1]), int(bar[2]), _elapsed(bar)) for bar in _BAR.finditer(text)]
    total = max((whole for _, _, whole, _ in bars), default=0)
    steps = [(at, step, time) for at, step, whole, time in bars if whole == total]  # bars of evaluation are shorter
    at_bar, step_now, with_step = 0, 0, 0
    time_now: float | None = None
    shapes: dict[tuple[str, ...], tuple[int | None, list[tuple[str, int]]]] = {}
    for match in _ROW.finditer(text):
        pairs = _ITEM.findall(match[0])
        key = tuple(name for name, _ in pairs)
        if (known := shapes.get(key)) is None:
            known = shapes[key] = _shape(key)
        step_at, names = known
        while at_bar < len(steps) and steps[at_bar][0] < match.start():
            _, step_now, time_now = steps[at_bar]
            at_bar += 1
        own = _float(pairs[step_at][1]) if step_at is not None else None
        row = {name: _float(pairs[at][1]) for name, at in names}
        if time_now is not None and "loss" in row:
            row.setdefault("elapsed", time_now)
        if "loss" in row or "eval_loss" in row:
            with_step += own is not None and 0 <= own < 1e15
            rows.append((int(own) if own is not None and 0 <= own < 1e15 else step_now, row))
    seen = [step for step, row in rows if "loss" in row]
    if with_step < len(rows) and (
        len(set(seen)) < 0.9 * len(seen) or seen != sorted(seen)
    ):  # no bars, or bars that tell nothing
        return _counted(rows)
    return rows


def _elapsed(bar: re.Match[str]) -> float | None:
    """Seconds since the start, by a progress bar; None where it does not show them."""
    return None if bar[5] is None else 3600.0 * int(bar[3] or 0) + 60.0 * int(bar[4]) + int(bar[5])


def _shape(names: tuple[str, ...]) -> tuple[int | None, list[tuple[str, int]]]:
    """Of the keys of a dictionary: where its step is, and our names of the others with where they are."""
    step = next((names.index(name) for name in STEPS if name in names), None)
    if "train_runtime" in names:
        return step, []
    ours: dict[str, int] = {}
    for at, name in enumerate(names):
        if own := canonical(name):
            ours.setdefault(own, at)
    return step, list(ours.items())


def _counted(rows: Rows) -> Rows:
    count, counted = 0, []
    for _, row in rows:
        count += "loss" in row
        counted.append((max(count, 1), row))
    return counted


def _lines(text: str) -> Rows:
    """Rows of other trainers: a step and a loss on one line; lines of a bar end with a carriage return."""
    rows: Rows = []
    with_step = 0
    for line in re.split(r"[\r\n]+", text):
        if "oss" not in line or len(line) > LONGEST or line.startswith("{"):
            continue
        row: dict[str, float] = {}
        for name, value in _FIELD.findall(line):
            if ours := canonical(_SPLIT.sub(r"\2_\1", name) if name.lower().startswith("loss ") else name):
                row.setdefault(ours, _float(value))
        if not ("loss" in row or "eval_loss" in row):
            continue
        step = _MEGATRON.search(line) or _last(_STEP, line) or _last(_BAR, line)
        with_step += step is not None
        digits = next((group for group in step.groups() if group), "") if step is not None else ""
        rows.append((int(digits) if 0 < len(digits) <= 15 else -1, row))
    if with_step < 0.5 * len(rows):
        return _counted(rows) if with_step == 0 and len(rows) >= 5 and any("epoch" in row for _, row in rows) else []
    return [(step, row) for step, row in rows if step >= 0]


def _last(pattern: re.Pattern[str], line: str) -> re.Match[str] | None:
    """The last match: `iter 10 step 5` counts optimizer steps second."""
    match = None
    for match in pattern.finditer(line):  # noqa: B007
        pass
    return match


def _table(text: str) -> Rows:
    """A table with a head: comma, tab or bar between cells, as Lightning, W&B's export and notebooks write them."""
    lines = [line for line in text.splitlines()[:200_001] if line.strip()]
    for at, line in enumerate(lines[:20]):
        for mark in (",", "\t", "|", ";"):
            names = [name.strip().strip('"') for name in line.strip("| ").split(mark)]
            ours = [canonical(name) for name in names]
            step = next((number for number, name in enumerate(names) if name.lower() in STEPS), None)
            if len(names) > 1 and step is not None and ("loss" in ours or "eval_loss" in ours):
                return list(_cells(lines[at + 1 :], mark, ours, step))
    return []


def _cells(lines: list[str], mark: str, ours: list[str], step: int) -> Iterator[tuple[int, dict[str, float]]]:
    for cells in csv.reader((line.strip("| ") if mark == "|" else line for line in lines), delimiter=mark):
        row: dict[str, float] = {}
        for name, cell in zip(ours, cells, strict=False):
            if name and re.fullmatch(_NUMBER, cell.strip()):
                row.setdefault(name, _float(cell.strip()))
        at = cells[step].strip() if step < len(cells) else ""
        if row and re.fullmatch(r"\d{1,15}(?:\.0)?", at):
            yield int(float(at)), row
