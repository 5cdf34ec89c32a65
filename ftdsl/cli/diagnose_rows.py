"""`ftc diagnose RUN --rows STEP[,STEP…]`: the rows that steps of a training read, as file and line; `--drop` leaves rows out."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ftdsl.cli.common import print_diff, print_json, read_exactly, rewrite

if TYPE_CHECKING:
    from ftdsl.diagnose.examined import Examined
    from ftdsl.engines.engine import Engine
    from ftdsl.plan.plan import Plan, PlannedStage
    from ftdsl.run.recipe_of import RunOrigin
    from ftdsl.run.step_rows import BatchRow
    from ftdsl.session import Session

SHOWN = 40
"""Rows that are shown; `--json` has all."""


class CannotError(Exception):
    """Why rows cannot be shown or left out; a sentence."""


def register(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", metavar="STEPS", help="the rows of these steps (`47` or `47,59`), or of `spikes`")
    parser.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="PLACE",
        help="with --rows: leave this row out (data/a.jsonl:212)",
    )
    parser.add_argument(
        "--engine-python", default="", metavar="PYTHON", help="with --rows: the Python that has the engine"
    )


def run(args: argparse.Namespace, examined: Examined) -> int:
    """0 where rows are shown, or left out; 2 where they cannot be."""
    from ftdsl.run.environments import NoEngineError
    from ftdsl.run.step_rows import NoRowsError

    try:
        return _run(args, examined)
    except (CannotError, NoRowsError, NoEngineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace, examined: Examined) -> int:
    from ftdsl.pipeline import check
    from ftdsl.run.recipe_of import recipe_of
    from ftdsl.run.step_rows import rows_of_steps, stage_of
    from ftdsl.session import Session

    origin = recipe_of(examined.path)
    if origin is None:
        raise CannotError(f"{examined.path.as_posix()} is no run of a recipe: its rows are not known")
    folder, steps = _steps(args.rows, examined)
    stage_of(origin.folder, folder)
    session = Session(engine_python=args.engine_python)
    plan = check(origin.recipe, origin.options, session).plan
    if plan is None:
        raise CannotError(f"{origin.recipe.as_posix()} has errors: ftc check {origin.recipe.as_posix()}")
    engine = _engine(plan, folder)
    python = _python(engine.name, plan, origin, session)
    rows = rows_of_steps(origin.folder, folder, steps, engine.step_rows, python, session.env)
    if args.drop:
        return _drop(args, origin, plan, rows, folder, steps)
    if args.json:
        shown = [
            {"where": row.where, "hash": row.hash or None, "steps": list(row.steps), "row": row.text or None}
            for row in rows
        ]
        print_json({"schema": 1, "stage": folder, "steps": steps, "rows": shown})
        return 0
    _show(args, rows, folder, steps)
    return 0


def _steps(text: str, examined: Examined) -> tuple[str, list[int]]:
    """The stage's folder, and the steps that are meant. Raises: CannotError."""
    from ftdsl.diagnose.spike_steps import spike_steps

    trainings = [training for training in examined.trainings if training.key and len(training.curves.loss)]
    if not trainings:
        raise CannotError("no stage of this run has logged a step")
    if text == "spikes":
        by_stage = {training.key: spike_steps(training.curves) for training in trainings}
        steps_by_stage = {key: steps for key, steps in by_stage.items() if steps}
        if not steps_by_stage:
            raise CannotError("the loss has no spikes")
    else:
        if not re.fullmatch(r"\d{1,9}(,\d{1,9})*", text) or "0" in text.split(","):
            raise CannotError(f"`{text}` is no list of steps: write --rows 47, --rows 47,59 or --rows spikes")
        steps_by_stage = {training.key: [int(part) for part in text.split(",")] for training in trainings}
    if len(steps_by_stage) > 1:
        raise CannotError(
            f"name the stage's folder: {', '.join((examined.path / key).as_posix() for key in steps_by_stage)}"
        )
    folder, steps = next(iter(steps_by_stage.items()))
    return folder, sorted(set(steps))


def _engine(plan: Plan, folder: str) -> Engine:
    """The engine of a stage. Raises: CannotError."""
    from ftdsl.engines import registry

    planned = next((planned for planned in plan.stages if planned.folder == folder), None)
    if planned is None:
        raise CannotError(f"the recipe has no stage {folder} any more")
    engine = registry.get(planned.engine.name)
    if engine is None or not engine.step_rows:
        raise CannotError(f"{planned.engine.title} is not asked for the rows of its steps yet")
    return engine


def _python(name: str, plan: Plan, origin: RunOrigin, session: Session) -> Path:
    """The Python of an engine; what is named counts for the recipe's own. Raises: NoEngineError."""
    from ftdsl.recipe.build import python_of
    from ftdsl.run.environments import find

    own = name == plan.recipe.engine.name
    folder = origin.recipe.parent
    named = python_of(plan.recipe.engine, folder) if own else ""
    return find(name, session.env, flag=session.engine_python if own else "", recipe=named, folder=folder).python


def _show(args: argparse.Namespace, rows: Sequence[BatchRow], folder: str, steps: Sequence[int]) -> None:
    from ftdsl.printable import one_line, shortened, typed

    several = len(steps) > 1
    print(
        f"{folder}, step{'s' * several} {', '.join(map(str, steps))}: {len(rows)} rows"
        + (", those of most steps first" if several else "")
    )
    for row in rows[:SHOWN]:
        mark = f" #{row.hash}" if row.hash else ""
        often = f"  (steps {', '.join(map(str, row.steps))})" if len(row.steps) > 1 else ""
        print(f"  {row.where}{mark}{often}")
        if row.text:
            print(f"    {shortened(one_line(row.text), 160)}")
    if len(rows) > SHOWN:
        print(f"  and {len(rows) - SHOWN} more: --json")
    first = rows[0] if rows else None
    if first and first.hash:
        print(
            f"next: ftc diagnose {typed(args.paths[0])} --rows {args.rows} --drop {typed(first.where)} --diff",
            file=sys.stderr,
        )


def _drop(
    args: argparse.Namespace, origin: RunOrigin, plan: Plan, rows: Sequence[BatchRow], folder: str, steps: Sequence[int]
) -> int:
    """Write the rows into `drop_rows` of the data stage that read them, with the reason. Raises: CannotError."""
    from ftdsl.cli.edited import edited
    from ftdsl.language.printing import string
    from ftdsl.printable import typed

    by_location = {row.where: row for row in rows}
    entries: dict[str, list[str]] = {}
    for location in args.drop:
        row = by_location.get(location)
        if row is None:
            raise CannotError(f"{location} is none of the rows of these steps")
        planned = next((planned for planned in plan.stages if planned.folder == row.data), None)
        if not row.hash or planned is None:
            raise CannotError(
                f"{location} is read by the engine itself: let a `data` stage read it, which can leave rows out"
            )
        what = "spike at step" if args.rows == "spikes" else "step"
        reason = f"{what} {' and '.join(map(str, row.steps))} of {folder} in {origin.folder.name}"
        entries.setdefault(planned.stage.name, _present(planned)).append(f"{location} #{row.hash} {reason}")
    before = read_exactly(origin.recipe)
    after: str | None = before
    for stage, texts in entries.items():
        listed = ", ".join(string((text,)) for text in dict.fromkeys(texts))
        after = edited(origin.recipe, after, stage, [("drop_rows", f"[{listed}]")]) if after is not None else None
    if before is None or after is None:
        return 2
    if args.diff:
        print_diff(origin.recipe.as_posix(), before, after, "drop_rows")
        return 0
    if not rewrite(origin.recipe, before, after):
        return 2
    print(f"next: ftc run {typed(origin.recipe.as_posix())}", file=sys.stderr)
    return 0


def _present(planned: PlannedStage) -> list[str]:
    return [str(text) for text in planned.stage.settings.get("drop_rows") or ()]
