"""`python -m runtime.data leaks SPEC.json`: are rows evaluated with trained on too? Over all data sets of a stage.

Compared are texts, without case and blanks, so that a question is found in a data set of another format. A row that asks
the same and is answered otherwise counts, and is reported separately. Where a data stage looks for near-duplicates, rows that
are only alike are found too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from xxhash import xxh3_64_intdigest

from .blocks import CannotReadError
from .near_duplicates import Sketcher, alike
from .reading import files_of
from .reporter import Reporter
from .surveying import BROKEN
from .texts import Texts

LEAST = 3
"""Words of a question: `Continue.` is asked everywhere and gives nothing away."""
BATCH = 2048
EXAMPLES = 20
Array = np.ndarray[Any, Any]


@dataclass
class Evaluated:
    """Rows of a data set that is evaluated with: their locations by the hash of the question, and by that of the whole text."""

    name: str
    rows: int = 0
    questions: dict[int, str] = field(default_factory=dict)
    wholes: dict[int, str] = field(default_factory=dict)
    texts: list[tuple[str, str]] = field(default_factory=list)
    leaks: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Location -> (how, the location of the row it is trained on)."""


def compare(spec: dict[str, Any]) -> int:
    """0; 1 if there are leaks and the spec says stop. Leaks are listed in leaks-report.json. Raises: OSError."""
    folder = spec["stage"]
    os.makedirs(folder, exist_ok=True)
    with Reporter(folder) as reporter:
        try:
            near = spec.get("near")
            evaluated = [_evaluated(part, near) for part in spec["eval"]]
            for part in spec["train"]:
                _trained(part, evaluated, near, reporter)
        except (CannotReadError, *BROKEN) as error:
            reporter.error(spec["where"], str(error))
            reporter.failed("data")
            return 1
        return _report(spec, evaluated, reporter)


def _rows(part: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(location, question, whole text) of every row that can be read; the engine reports the others."""
    texts = Texts(part)
    for file in files_of(part):
        for block in file.blocks():
            for position, line in block.numbered():
                try:
                    question, whole = texts.question_and_text(orjson.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError, IndexError):
                    continue
                yield file.where(position), _plain(question), _plain(whole)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _hash(text: str) -> int:
    return xxh3_64_intdigest(text.encode())


def _evaluated(part: dict[str, Any], near: float | None) -> Evaluated:
    evaluated = Evaluated(part["name"])
    for location, question, whole in _rows(part):
        evaluated.rows += 1
        evaluated.wholes[_hash(whole)] = location
        if question.count(" ") >= LEAST - 1:
            evaluated.questions[_hash(question)] = location
        if near:
            evaluated.texts.append((location, whole))
    return evaluated


def _trained(part: dict[str, Any], evaluated: list[Evaluated], near: float | None, reporter: Reporter) -> None:
    likeness = [_Likeness(data_set, near) for data_set in evaluated] if near else []
    batch: list[tuple[str, str]] = []
    for done, (location, question, whole) in enumerate(_rows(part), 1):
        question_hash, whole_hash = _hash(question), _hash(whole)
        for data_set in evaluated:
            if (same := data_set.wholes.get(whole_hash)) is not None:
                data_set.leaks[same] = ("the same text", location)
            elif (same := data_set.questions.get(question_hash)) is not None:
                data_set.leaks.setdefault(same, ("the same question", location))
        if near:
            batch.append((location, whole))
            if len(batch) == BATCH:
                _look(likeness, batch)
                batch = []
        if done % BATCH == 0:
            reporter.progress(done, None, f"rows of {part['name']} compared")
    _look(likeness, batch)


def _look(likeness: list[_Likeness], batch: list[tuple[str, str]]) -> None:
    for likeness_of in likeness:
        likeness_of.look(batch)


class _Likeness:
    """Finds rows that are almost one of those evaluated with."""

    def __init__(self, evaluated: Evaluated, share: float) -> None:
        self._evaluated, self._share = evaluated, share
        self._sketcher = Sketcher(share)
        self._bands, self._signs = self._sketcher.sketch([text for _, text in evaluated.texts])
        self._order = np.argsort(self._bands, axis=0, kind="stable")

    def look(self, batch: list[tuple[str, str]]) -> None:
        if not batch or not self._evaluated.texts:
            return
        bands, signs = self._sketcher.sketch([text for _, text in batch])
        for at in range(bands.shape[1]):
            order = self._order[:, at]
            ordered = self._bands[order, at]
            low, high = (np.searchsorted(ordered, bands[:, at], side) for side in ("left", "right"))
            for row in np.flatnonzero(high > low).tolist():
                mine = order[low[row] : high[row]]
                same = mine[alike(self._signs[mine], signs[row][None, :]) >= self._share]
                for other in same.tolist():
                    self._evaluated.leaks.setdefault(
                        self._evaluated.texts[other][0], ("almost the same text", batch[row][0])
                    )


def _report(spec: dict[str, Any], evaluated: list[Evaluated], reporter: Reporter) -> int:
    report = []
    for data_set in evaluated:
        kinds: dict[str, int] = {}
        for how, _ in data_set.leaks.values():
            kinds[how] = kinds.get(how, 0) + 1
        examples = [
            {"row": row, "how": how, "trained": location}
            for row, (how, location) in list(data_set.leaks.items())[:EXAMPLES]
        ]
        report.append({"name": data_set.name, "rows": data_set.rows, "found": kinds, "examples": examples})
        if data_set.leaks:
            row, (how, location) = next(iter(data_set.leaks.items()))
            counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            where = f"{row} has {how} as {location}"
            text = f"{len(data_set.leaks)} of {data_set.rows} rows of `{data_set.name}` are trained on too ({counts}): {where}"
            reporter.warning(spec["where"], text, "evaluate.data", "data", code="FT510")
    beside = os.path.join(spec["stage"], ".leaks-report.json")
    with open(beside, "w", encoding="utf-8") as file:
        json.dump(
            {"schema": 1, "evaluated": report, "not_compared": spec["skipped"]}, file, indent=1, ensure_ascii=False
        )
    os.replace(beside, os.path.join(spec["stage"], "leaks-report.json"))
    has_leaks = any(data_set.leaks for data_set in evaluated)
    if has_leaks and spec["leak"] == "stop":
        reporter.error(spec["where"], "rows it is evaluated with are trained on too, and `guard.leak = stop`")
        reporter.failed("guard.leak")
        return 1
    if not has_leaks:
        print(f"leaks: none in {', '.join(data_set.name for data_set in evaluated)}")
    return 0
