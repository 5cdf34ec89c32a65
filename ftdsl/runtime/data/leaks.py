"""`python -m runtime.data leaks SPEC.json`: are rows evaluated with trained on too? Over all data sets of a stage.

Compared are texts, without case and blanks, so that a question is found in a data set of another format. A row that asks
the same and is answered otherwise counts, and is said apart. Where a data stage looks for near-duplicates, rows that
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
    """Rows of one data set that is evaluated with: their place by what is asked, and by all that stands in them."""

    name: str
    rows: int = 0
    questions: dict[int, str] = field(default_factory=dict)
    wholes: dict[int, str] = field(default_factory=dict)
    texts: list[tuple[str, str]] = field(default_factory=list)
    found: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Place -> (how, the place it is trained on)."""


def compare(spec: dict[str, Any]) -> int:
    """0; 1 when rows are found and the spec says stop. What is found stands in leaks-report.json. Raises: OSError."""
    folder = spec["stage"]
    os.makedirs(folder, exist_ok=True)
    with Reporter(folder) as reporter:
        try:
            near = spec.get("near")
            evaluated = [_evaluated(one, near) for one in spec["eval"]]
            for one in spec["train"]:
                _trained(one, evaluated, near, reporter)
        except (CannotReadError, *BROKEN) as error:
            reporter.error(spec["where"], str(error))
            reporter.failed("data")
            return 1
        return _tell(spec, evaluated, reporter)


def _rows(part: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(place, what is asked, all of it) of every row that can be read; what cannot is the engine's to say."""
    texts = Texts(part)
    for file in files_of(part):
        for block in file.blocks():
            for place, line in block.places():
                try:
                    question, whole = texts.asked(orjson.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError, IndexError):
                    continue
                yield file.where(place), _plain(question), _plain(whole)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _hash(text: str) -> int:
    return xxh3_64_intdigest(text.encode())


def _evaluated(part: dict[str, Any], near: float | None) -> Evaluated:
    found = Evaluated(part["name"])
    for place, question, whole in _rows(part):
        found.rows += 1
        found.wholes[_hash(whole)] = place
        if question.count(" ") >= LEAST - 1:
            found.questions[_hash(question)] = place
        if near:
            found.texts.append((place, whole))
    return found


def _trained(part: dict[str, Any], evaluated: list[Evaluated], near: float | None, reporter: Reporter) -> None:
    likeness = [_Likeness(one, near) for one in evaluated] if near else []
    batch: list[tuple[str, str]] = []
    for done, (place, question, whole) in enumerate(_rows(part), 1):
        asked, all_of_it = _hash(question), _hash(whole)
        for one in evaluated:
            if (same := one.wholes.get(all_of_it)) is not None:
                one.found[same] = ("the same text", place)
            elif (same := one.questions.get(asked)) is not None:
                one.found.setdefault(same, ("the same question", place))
        if near:
            batch.append((place, whole))
            if len(batch) == BATCH:
                _look(likeness, batch)
                batch = []
        if done % BATCH == 0:
            reporter.progress(done, None, f"rows of {part['name']} compared")
    _look(likeness, batch)


def _look(likeness: list[_Likeness], batch: list[tuple[str, str]]) -> None:
    for one in likeness:
        one.look(batch)


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
                    self._evaluated.found.setdefault(
                        self._evaluated.texts[other][0], ("almost the same text", batch[row][0])
                    )


def _tell(spec: dict[str, Any], evaluated: list[Evaluated], reporter: Reporter) -> int:
    report = []
    for one in evaluated:
        kinds: dict[str, int] = {}
        for how, _ in one.found.values():
            kinds[how] = kinds.get(how, 0) + 1
        examples = [
            {"row": row, "how": how, "trained": place} for row, (how, place) in list(one.found.items())[:EXAMPLES]
        ]
        report.append({"name": one.name, "rows": one.rows, "found": kinds, "examples": examples})
        if one.found:
            row, (how, place) = next(iter(one.found.items()))
            said = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            where = f"{row} has {how} as {place}"
            text = f"{len(one.found)} of {one.rows} rows of `{one.name}` are trained on too ({said}): {where}"
            reporter.warning(spec["where"], text, "evaluate.data", "data", code="FT510")
    beside = os.path.join(spec["stage"], ".leaks-report.json")
    with open(beside, "w", encoding="utf-8") as file:
        json.dump(
            {"schema": 1, "evaluated": report, "not_compared": spec["skipped"]}, file, indent=1, ensure_ascii=False
        )
    os.replace(beside, os.path.join(spec["stage"], "leaks-report.json"))
    found = any(one.found for one in evaluated)
    if found and spec["leak"] == "stop":
        reporter.error(spec["where"], "rows it is evaluated with are trained on too, and `guard.leak = stop`")
        reporter.failed("guard.leak")
        return 1
    if not found:
        print(f"leaks: none in {', '.join(one.name for one in evaluated)}")
    return 0
