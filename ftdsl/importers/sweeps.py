"""Rounds of a shell's loop as one stage with axes: `for lr in 1e-5 2e-5` is `lr in [1e-5, 2e-5]`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from ftdsl.importers.bash_words import CLOSE, OPEN
from ftdsl.importers.draft import Axis, Note, StageDraft
from ftdsl.importers.outside import RUN

APART = "each run of an axis has a folder of its own"
Loops = tuple[tuple[str, int], ...]
_NAMES = ("to", "track.name", "track.dir")
"""Keys that name a run: what differs in them is the run's own name."""


def joined(drafts: Sequence[StageDraft], loops: Sequence[Loops]) -> StageDraft | None:
    """The first draft with every value that differs as an axis; None where one loop changes several keys at once, or the
    rounds have other keys."""
    first = drafts[0]
    if any(draft.values.keys() != first.values.keys() or draft.blocks != first.blocks or draft.parents != first.parents
           or draft.passed != first.passed for draft in drafts):  # fmt: skip
        return None
    differing = [key for key in first.values if any(draft.values[key] != first.values[key] for draft in drafts)]
    axes: dict[str, str] = {}
    for key in differing:
        if key in _NAMES:
            continue
        by = _loop_of([draft.values[key] for draft in drafts], loops)
        if not by or by in axes.values() or key.partition(".")[0] in ("hardware", "launch", "env"):
            return None
        axes[key] = by
    if not axes and not first.parents:  # no key of the recipe differs: stages of their own
        return None
    for key in axes:
        first.values[key] = Axis(tuple(_distinct([draft.values[key] for draft in drafts])))
    for key in differing:
        if key in _NAMES:
            _named(first, key, [draft.values[key] for draft in drafts])
    if axes and "to" in first.values and "to" not in differing:
        _named(first, "to", [first.values["to"]])
    return first


def _loop_of(values: Sequence[Any], loops: Sequence[Loops]) -> str:
    """The one loop whose rounds decide a value; "" where several do."""
    for at, (name, _) in enumerate(loops[0]):
        by_round: dict[int, list[Any]] = {}
        for value, loop in zip(values, loops, strict=True):
            by_round.setdefault(loop[at][1], []).append(value)
        if all(item == some[0] for some in by_round.values() for item in some):
            return name
    return ""


def _distinct(values: Sequence[Any]) -> list[Any]:
    distinct: list[Any] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return distinct


def _named(draft: StageDraft, key: str, values: Sequence[Any]) -> None:
    """A folder for each run; a name of a run is given by the recipe itself."""
    parameter = {"to": "output_dir", "track.name": "run_name", "track.dir": "logging_dir"}[key]
    draft.reasons[parameter] = APART
    if key == "track.name":
        del draft.values[key]
        return
    texts = [str(value) for value in values]
    folders = [text.split("/")[:-1] for text in texts] if len(set(texts)) > 1 else [texts[0].split("/")]
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False))
    folder = "/".join(parts[0] for parts in shared)
    draft.values[key] = f"{folder + '/' if folder else ''}{OPEN}{RUN}{CLOSE}"
    span = (draft.setting(parameter) or draft.config.at(parameter)).span
    draft.notes.append(Note(parameter, "a folder for each run of the axis", span, carried=True))
