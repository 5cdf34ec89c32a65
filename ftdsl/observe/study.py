"""A study for views: goals, dimensions, trials, which are best, and tables. Read from `study.json`, without Optuna."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ftdsl.observe.text import duration, number
from ftdsl.session import read_json

NAME = "study.json"
SCHEMA = 1


@dataclass(frozen=True)
class TrialRow:
    """One trial. state: running, stopped, complete, pruned, failed, refused, infeasible; values: by goal; parameters: as the
    recipe writes them; step, last: of the last intermediate value; spent: seconds in which it ran, without the last start if that
    still runs.
    """

    number: int
    state: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    run: str = ""
    started: float | None = None
    ended: float | None = None
    step: int | None = None
    last: float | None = None
    spent: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether it was launched, and so is one of `trials`."""
        return self.state != "infeasible"

    @property
    def ended_well(self) -> bool:
        return self.state == "complete"


@dataclass(frozen=True)
class StudyPicture:
    """goals: name and whether less is better; dimensions: name and space; wanted: how many trials; shared: stages that ran once
    for all; over: why it has ended, "" while it may continue; pid: the worker that wrote this; budget: what of it is
    used, in words; settings: of the searched stage in the best trial, as items of a recipe, once the study has ended.
    """

    name: str
    study: str
    storage: str
    goals: Sequence[tuple[str, bool]]
    dimensions: Mapping[str, str]
    wanted: int
    trials: Sequence[TrialRow] = ()
    shared: Sequence[str] = ()
    over: str = ""
    began: float = 0.0
    pid: int = 0
    budget: str = ""
    settings: Sequence[str] = ()

    def front(self) -> list[TrialRow]:
        """The trials that no other beats: the best one, or with several goals the Pareto front, best in the first goal first."""
        complete = [row for row in self.trials if row.ended_well and all(name in row.values for name, _ in self.goals)]
        kept = [row for row in complete if not any(self._beats(other, row) for other in complete)]
        kept.sort(key=self._order)
        return kept if len(self.goals) > 1 else kept[:1]

    def _score(self, row: TrialRow) -> tuple[float, ...]:
        return tuple(row.values[name] * (1 if less else -1) for name, less in self.goals)

    def _order(self, row: TrialRow) -> tuple[Any, ...]:
        return (*self._score(row), row.number)

    def _beats(self, trial: TrialRow, other: TrialRow) -> bool:
        scores = list(zip(self._score(trial), self._score(other), strict=True))
        return all(a <= b for a, b in scores) and any(a < b for a, b in scores)

    @property
    def best(self) -> TrialRow | None:
        """Of several goals the trial of the front that is best in the first."""
        return next(iter(self.front()), None)

    def count(self, *states: str) -> int:
        return sum(row.state in states for row in self.trials)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        front = [row.number for row in self.front()]
        return {"schema": SCHEMA, **asdict(self), "best": front[0] if front else None, "front": front}


def read(folder: Path) -> StudyPicture | None:
    """The picture in a study's folder; None where there is none."""
    try:
        document = read_json(folder / NAME)
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            return None
        rows = [TrialRow(**row) for row in document["trials"]]
        names = StudyPicture.__dataclass_fields__.keys() - {"trials", "goals"}
        goals = [(str(name), bool(less)) for name, less in document["goals"]]
        return StudyPicture(**{name: document[name] for name in names if name in document}, trials=rows, goals=goals)
    except (OSError, ValueError, TypeError, LookupError):
        return None


def encoded(picture: StudyPicture) -> bytes:
    """The file's content."""
    return (json.dumps(picture.document(), ensure_ascii=False, indent=1) + "\n").encode()


def short_names(names: Sequence[str]) -> Mapping[str, str]:
    """Names of dimensions without what they share, as far as they stay different: `lr` of `sft.optim.lr`."""
    short = {}
    for name in names:
        parts = name.split(".")
        endings = [".".join(parts[-size:]) for size in range(1, len(parts) + 1)]
        short[name] = next(
            (end for end in endings if sum(f".{other}".endswith(f".{end}") for other in names) == 1), name
        )
    return short


def parameters_text(row: TrialRow) -> str:
    """`lr = 3.2e-5, rank = 16`."""
    names = short_names(list(row.parameters))
    return ", ".join(f"{names[name]} = {value}" for name, value in row.parameters.items())


def values_text(row: TrialRow, picture: StudyPicture) -> str:
    """`eval_loss 1.23`, of several goals all."""
    names = short_names([name for name, _ in picture.goals])
    return ", ".join(f"{names[name]} {number(row.values[name])}" for name, _ in picture.goals if name in row.values)


def rows(picture: StudyPicture, now: float | None = None, most: int = 0) -> list[tuple[str, ...]]:
    """The table of trials, best first: a head, then a row a trial. most: rows at most, 0 for all."""
    now = time.time() if now is None else now
    goals, dimensions = short_names([name for name, _ in picture.goals]), list(picture.dimensions)
    names = short_names(dimensions)
    front = {row.number for row in picture.front()}
    head = ("trial", "", *(goals[name] for name, _ in picture.goals), *(names[name] for name in dimensions), "time", "")
    table = [head]
    ordered = _ordered(picture)
    for row in ordered[: most or None]:
        mark = "best" if row.number in front and len(front) == 1 else "front" if row.number in front else row.state
        mark = "done" if mark == "complete" else mark
        lasted = 0.0 if row.started is None else max(0.0, (row.ended or now) - row.started)
        spent = "" if row.started is None else duration(row.spent if row.ended and row.spent else lasted)
        table.append((
            str(row.number), mark, *(_value(row, name) for name, _ in picture.goals),
            *(row.parameters.get(name, "-") for name in dimensions), spent, _remark(row),
        ))  # fmt: skip
    if most and len(ordered) > most:
        table.append((f"+{len(ordered) - most}", *("" for _ in head[1:])))
    return table


def _ordered(picture: StudyPicture) -> list[TrialRow]:
    complete = sorted((row for row in picture.trials if row.ended_well and row.values), key=picture._order)
    running = [row for row in picture.trials if row.state in ("running", "stopped")]
    rest = [row for row in picture.trials if row not in complete and row not in running]
    return [*running, *complete, *rest]


def _value(row: TrialRow, goal: str) -> str:
    if goal in row.values:
        return number(row.values[goal])
    return f"({number(row.last)})" if row.last is not None and row.state in ("running", "pruned", "stopped") else "-"


def _remark(row: TrialRow) -> str:
    at = f"at step {row.step}" if row.step is not None and row.state in ("running", "pruned", "stopped") else ""
    return row.reason or at


def headline(picture: StudyPicture) -> str:
    """`12 of 30 trials: 9 done, 2 pruned, 1 failed; 3 refused beforehand`."""
    counted = [row for row in picture.trials if row.counts and row.state not in ("running", "stopped")]
    parts = [(picture.count("complete"), "done"), (picture.count("pruned"), "pruned"), (picture.count("failed"), "failed"),
             (picture.count("refused"), "refused by a gate"), (picture.count("running"), "running"),
             (picture.count("stopped"), "to be resumed")]  # fmt: skip
    text = ", ".join(f"{count} {word}" for count, word in parts if count)
    before = picture.count("infeasible")
    return (
        f"{len(counted)} of {picture.wanted} trials"
        + (f": {text}" if text else "")
        + (f"; {before} refused before they started" if before else "")
        + (f"; budget: {picture.budget}" if picture.budget else "")
    )
