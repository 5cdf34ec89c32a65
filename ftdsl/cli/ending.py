"""What `ftc run` says at the end: tables and problems for a person, one JSON document for a program."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from shlex import quote
from typing import TYPE_CHECKING, Any

from ftdsl.cli.common import color
from ftdsl.diagnostics import Diagnostic, Severity
from ftdsl.diagnostics.render_text import render
from ftdsl.diagnostics.view import view
from ftdsl.observe import table
from ftdsl.observe.progress import RunProgress, StageProgress, Status
from ftdsl.observe.text import duration
from ftdsl.record import replace
from ftdsl.run import faults
from ftdsl.run.process import last_words

if TYPE_CHECKING:
    from ftdsl.targets.compiled import Compiled


@dataclass
class Outcome:
    """How far one recipe came. `found`: what a check said; `problems`: what the run said, at its places in the recipe."""

    file: str
    began: float
    status: int = 0
    seconds: float = 0.0
    said: str = ""
    nothing: bool = False
    found: list[Diagnostic] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    progress: RunProgress | None = None
    compiled: Compiled | None = None

    def ended(self, status: int) -> Outcome:
        self.status, self.seconds = status, time.monotonic() - self.began
        return self

    def broke(self, found: Iterable[tuple[str, faults.Fault]]) -> None:
        """Stages that cannot run, or failed. `unknown` are those of which nobody knows why."""
        for key, fault in found:
            self._add(key, fault, Severity.ERROR)
            if not fault.known:
                self.unknown.append(key)

    def warned(self, found: Iterable[tuple[str, faults.Fault]]) -> None:
        for key, fault in found:
            self._add(key, fault, Severity.WARNING)

    def _add(self, key: str, fault: faults.Fault, severity: Severity) -> None:
        if self.compiled is None:
            return
        found = faults.diagnostic(fault, key, self.compiled.plan, severity)
        for at, one in enumerate(self.problems):
            keys, _, said = one.message.partition(": ")
            if (one.code, one.span, said) == (found.code, found.span, fault.message):  # several stages, one cause
                self.problems[at] = replace(one, message=f"{keys}, `{key}`: {said}")
                return
        self.problems.append(found)


def status_of(outcomes: Sequence[Outcome]) -> int:
    """Of several recipes the worst: interrupted, failed, wrong usage, a gate that refuses."""
    found = {outcome.status for outcome in outcomes}
    return next((status for status in (130, 1, 2, 3) if status in found), 0)


# --- for a person


def tell(outcome: Outcome, *, smoke: bool) -> None:
    """The table of stages, what went wrong and where, and what to do next."""
    progress = outcome.progress
    if progress is None:
        return
    if outcome.nothing:
        folder = progress.folder.as_posix()
        print(f"nothing to do: all {len(progress.stages)} stages are done in {folder}", file=sys.stderr)
    print("\n".join(table.summary(progress, smoke=smoke)))
    for text in _logs(outcome, progress):
        print(text, file=sys.stderr)
    if outcome.problems:
        print(f"\n{render(outcome.problems, color=color(sys.stderr))}\n", file=sys.stderr)
    if smoke:
        print(_smoke_line(outcome, progress))
    print(_next(outcome, progress, smoke=smoke), file=sys.stderr)


def _logs(outcome: Outcome, progress: RunProgress) -> Iterator[str]:
    """Where the engine's own story stands; its last lines where nobody knows what it means; rows that do not fit."""
    for stage in progress.having(Status.FAILED):
        log = progress.folder / stage.folder / "log.txt"
        if stage.key in outcome.unknown:
            yield f"\nthe end of {log.as_posix()}:"
            yield from (f"  | {line}" for line in last_words(log))
        elif stage.job.kind == "data" and (errors := faults.listed(log)):
            yield f"\n{stage.key}: rows that do not fit (also in {log.as_posix()}):"
            yield from (f"  {line}" for line in errors)


def _smoke_line(outcome: Outcome, progress: RunProgress) -> str:
    replaced = len(outcome.compiled.replaced) if outcome.compiled else 0
    verdict = "goes through" if outcome.status == 0 else "does not go through"
    spent, record = duration(outcome.seconds), (progress.folder / "smoke.json").as_posix()
    return (
        f"smoke: {outcome.file} {verdict}: {len(progress.stages)} stages in {spent}, {replaced} things replaced "
        f"({record}); toy models and a few steps: the numbers mean nothing, the paths do"
    )


def _next(outcome: Outcome, progress: RunProgress, *, smoke: bool) -> str:
    file = quote(outcome.file)
    if outcome.status == 130:
        return f"stopped; what is done is kept. next: ftc run {file}"
    if outcome.status == 1 and smoke:
        return f"next: mend it, then ftc run {file} --smoke"
    if outcome.status == 1:
        return f"next: mend it, then ftc run {file} goes on where it stopped"
    if outcome.status == 3:
        stages = ", ".join(stage.key for stage in progress.having(Status.REFUSED))
        return f"a gate refused: {stages}. next: train on, or change the gate"
    if smoke:
        return f"next: ftc run {file}, where its hardware is"
    made = [
        s for s in progress.stages if s.result and s.result.kind in ("model", "adapter") and s.job.kind != "scratch"
    ]
    result = made[-1].result if made else None
    return f"next: what it made lies in {(progress.folder / result.path).as_posix()}" if result else ""


def tell_all(outcomes: Sequence[Outcome]) -> None:
    """One line a recipe: a person sees at once which one to look at."""
    good = sum(outcome.status == 0 for outcome in outcomes)
    rows = [_line(outcome) for outcome in outcomes]
    print("\n".join(["", f"smoke: {good} of {len(outcomes)} recipes go through", *table.columns(rows)]))


def _line(outcome: Outcome) -> tuple[str, ...]:
    mark = "ok" if outcome.status == 0 else "FAILED"
    errors = [one for one in (*outcome.found, *outcome.problems) if one.severity is Severity.ERROR]
    first = errors[0] if errors else None
    where = f" ({first.span.where})" if first and first.span else ""
    why = f"{first.message}{where}" if first else outcome.said
    stages = f"{len(outcome.progress.stages)} stages" if outcome.progress else ""
    return f"  {mark}", outcome.file, duration(outcome.seconds), stages, why


# --- for a program


def print_json(outcomes: Sequence[Outcome], *, smoke: bool) -> None:
    """One document; with --smoke always a list of recipes, however many were named."""
    recipes = [_document(outcome, smoke=smoke) for outcome in outcomes]
    seconds = round(sum(outcome.seconds for outcome in outcomes), 3)
    whole = {"status": status_of(outcomes), "seconds": seconds, "recipes": recipes}
    print(json.dumps({"schema": 1, **(whole if smoke else recipes[0])}, indent=2, ensure_ascii=False))


def print_github(outcomes: Sequence[Outcome]) -> None:
    """Errors and warnings as workflow commands: GitHub shows them at the recipe's lines."""
    from ftdsl.diagnostics.render_github import render as commands

    said = [one for outcome in outcomes for one in (*outcome.found, *outcome.problems)]
    print(commands(one for one in said if one.severity is not Severity.INFO), end="")


def _document(outcome: Outcome, *, smoke: bool) -> dict[str, Any]:
    progress, compiled = outcome.progress, outcome.compiled
    found: dict[str, Any] = {
        "file": outcome.file,
        "name": compiled.name if compiled else None,
        "run": progress.folder.as_posix() if progress else None,
        "status": outcome.status,
        "seconds": round(outcome.seconds, 3),
        "stages": [_stage(stage, progress) for stage in progress.stages] if progress else [],
        "problems": view(one for one in (*outcome.found, *outcome.problems) if one.severity is not Severity.INFO),
    }
    if outcome.said:
        found["message"] = outcome.said
    if smoke:
        found["replaced"] = [one.as_json() for one in compiled.replaced] if compiled else []
    return found


def _stage(stage: StageProgress, run: RunProgress) -> dict[str, Any]:
    return {
        "stage": stage.key,
        "where": stage.job.where,
        "status": stage.status.value,
        "seconds": round(stage.elapsed(stage.ended), 3) if stage.started and stage.ended else None,
        "message": stage.message,
        "kind": stage.result.kind if stage.result else None,
        "path": (run.folder / stage.result.path).as_posix() if stage.result else None,
        "metrics": dict(stage.result.metrics) if stage.result else {},
        "notes": stage.notes,
    }
