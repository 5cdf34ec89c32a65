"""The report of `ftc run` at its end: tables and problems as text, or one JSON document."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ftdsl.cli import run_diagnosis
from ftdsl.cli.common import rendered
from ftdsl.diagnostics import Diagnostic, Severity
from ftdsl.diagnostics.view import view
from ftdsl.observe import table
from ftdsl.observe.progress import RunProgress, StageProgress, Status
from ftdsl.observe.study import StudyPicture, headline, rows
from ftdsl.observe.sweep import sweeps
from ftdsl.observe.text import duration
from ftdsl.run import faults
from ftdsl.run.launchers.log import last_lines
from ftdsl.run.outcome import Outcome, status_of

# --- as text


def show_outcome(outcome: Outcome, *, smoke: bool, recipe: str) -> None:
    """Print the table of stages, the problems, and the next step. recipe: as it is typed, with the options of its variant."""
    progress = outcome.progress
    if outcome.study is not None:
        print("\n".join([*study_lines(outcome.study), *([""] if progress else [])]))
    if progress is None:
        if outcome.study is not None or outcome.message:
            _show_problems(outcome)
        return
    if outcome.nothing_to_do:
        folder = progress.folder.as_posix()
        count = len(progress.stages)
        stages = f"all {count} stages are" if count > 1 else "its stage is"
        print(f"nothing to do: {stages} done in {folder}", file=sys.stderr)
    print("\n".join(table.summary(progress, smoke=smoke)))
    for text in _logs(outcome, progress):
        print(text, file=sys.stderr)
    _show_problems(outcome)
    if smoke:
        print(_smoke_line(outcome, progress))
    for text in run_diagnosis.lines(progress):
        print(text, file=sys.stderr)
    print(_next(outcome, progress, recipe, smoke=smoke), file=sys.stderr)


def _show_problems(outcome: Outcome) -> None:
    if outcome.problems:
        print(f"\n{rendered(outcome.problems, sys.stderr)}\n", file=sys.stderr)


def study_lines(picture: StudyPicture, most: int = 20) -> list[str]:
    """A study as text: how far it is, and its trials, best first."""
    return [headline(picture), *table.columns(rows(picture, most=most))]


def _logs(outcome: Outcome, progress: RunProgress) -> Iterator[str]:
    """The last lines of the engine's log, for errors without an explanation; rows that failed the checks."""
    for stage in progress.having(Status.FAILED):
        log = progress.folder / stage.folder / "log.txt"
        if stage.key in outcome.unexplained:
            yield f"\nthe end of {log.as_posix()}:"
            yield from (f"  | {line}" for line in last_lines(log))
        elif stage.kind == "data" and (errors := faults.row_errors(log.parent)):
            yield f"\n{stage.key}: invalid rows (also in {log.as_posix()}):"
            yield from (f"  {line}" for line in errors)


def _smoke_line(outcome: Outcome, progress: RunProgress) -> str:
    replaced = len(outcome.compiled.replaced) if outcome.compiled else 0
    verdict = "passes" if outcome.status == 0 else "fails"
    spent, record = duration(outcome.seconds), (progress.folder / "smoke.json").as_posix()
    return (
        f"smoke: {outcome.file} {verdict}: {len(progress.stages)} stages in {spent}, {replaced} values replaced "
        f"({record}); toy models and a few steps: ignore the metrics"
    )


def _next(outcome: Outcome, progress: RunProgress, file: str, *, smoke: bool) -> str:
    if outcome.status == 130:
        return f"stopped; finished stages are kept. next: ftc run {file}"
    if outcome.status == 1 and smoke:
        return f"next: fix it, then ftc run {file} --smoke"
    if outcome.status == 1:
        return f"next: fix it, then ftc run {file} continues where it stopped"
    if outcome.status == 3:
        stages = ", ".join(stage.key for stage in progress.having(Status.REFUSED))
        return f"a gate failed: {stages}. next: train longer, or change the gate"
    if smoke:
        return f"next: ftc run {file}, on the machine with its hardware"
    return _results(progress)


def _results(progress: RunProgress) -> str:
    """Where the model is; of a sweep the best one, if a score says which that is."""
    models = [s for s in progress.stages if s.result and s.result.kind in ("model", "adapter") and s.kind != "scratch"]
    if not models:
        return ""
    last = models[-1]
    if "@" in last.key:
        name = last.key.partition("@")[0]
        best = next((sweep.best for sweep in sweeps(progress) if sweep.name == name), None)
        if best is None:
            return f"next: the results of {name} are in {progress.folder.as_posix()}, a folder for each run"
        last = best
    assert last.result is not None
    return f"next: the result is in {table.result_path(progress.folder, last.result.path)}"


def show_all(outcomes: Sequence[Outcome]) -> None:
    """Print one line per recipe."""
    good = sum(outcome.status == 0 for outcome in outcomes)
    table_rows = [_line(outcome) for outcome in outcomes]
    print("\n".join(["", f"smoke: {good} of {len(outcomes)} recipes pass", *table.columns(table_rows)]))


def _line(outcome: Outcome) -> tuple[str, ...]:
    mark = "ok" if outcome.status == 0 else "FAILED"
    diagnostics = (*outcome.diagnostics, *outcome.problems)
    errors = [diagnostic for diagnostic in diagnostics if diagnostic.severity is Severity.ERROR]
    first = errors[0] if errors else None
    where = f" ({first.span.location})" if first and first.span else ""
    why = f"{first.message}{where}" if first else outcome.message
    stages = f"{len(outcome.progress.stages)} stages" if outcome.progress else ""
    return f"  {mark}", outcome.file, duration(outcome.seconds), stages, why


# --- as JSON


def print_json(outcomes: Sequence[Outcome], *, smoke: bool) -> None:
    """Print one document; with --smoke always a list of recipes."""
    recipes = [_document(outcome, smoke=smoke) for outcome in outcomes]
    seconds = round(sum(outcome.seconds for outcome in outcomes), 3)
    whole = {"status": status_of(outcomes), "seconds": seconds, "recipes": recipes}
    print(json.dumps({"schema": 1, **(whole if smoke else recipes[0])}, indent=2, ensure_ascii=False))


def print_github(outcomes: Sequence[Outcome]) -> None:
    """Errors and warnings as workflow commands: GitHub shows them at the recipe's lines."""
    from ftdsl.diagnostics.render_github import render as commands

    print(commands(diagnostic for outcome in outcomes for diagnostic in _loud(outcome)), end="")


def _loud(outcome: Outcome) -> Iterator[Diagnostic]:
    """Errors and warnings of the check and of the run."""
    diagnostics = (*outcome.diagnostics, *outcome.problems)
    return (diagnostic for diagnostic in diagnostics if diagnostic.severity is not Severity.INFO)


def _document(outcome: Outcome, *, smoke: bool) -> dict[str, Any]:
    progress, compiled = outcome.progress, outcome.compiled
    document: dict[str, Any] = {
        "file": outcome.file,
        "name": compiled.name if compiled else None,
        "run": progress.folder.as_posix() if progress else None,
        "status": outcome.status,
        "seconds": round(outcome.seconds, 3),
        "stages": [_stage(stage, progress) for stage in progress.stages] if progress else [],
        "problems": view(_loud(outcome)),
        "diagnoses": run_diagnosis.document(progress) if progress else {},
    }
    if outcome.study is not None:
        document["study"] = outcome.study.document()
    if outcome.message:
        document["message"] = outcome.message
    if smoke:
        document["replaced"] = [replacement.as_json() for replacement in compiled.replaced] if compiled else []
    return document


def _stage(stage: StageProgress, run: RunProgress) -> dict[str, Any]:
    return {
        "stage": stage.key,
        "where": stage.where,
        "status": stage.status.value,
        "seconds": round(stage.elapsed(stage.ended), 3) if stage.started and stage.ended else None,
        "message": stage.message,
        "kind": stage.result.kind if stage.result else None,
        "path": (run.folder / stage.result.path).as_posix() if stage.result else None,
        "metrics": dict(stage.result.metrics) if stage.result else {},
        "notes": stage.notes,
        "ledger": [dict(entry) for entry in stage.ledger],
    }
