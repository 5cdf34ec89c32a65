"""`ftc status [FILE]`: the progress of a recipe's run, from any terminal; without a recipe of all runs of the project."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftdsl.cli.common import add_recipe_arguments, options_of, recipe_path

if TYPE_CHECKING:
    from ftdsl.observe.progress import StageProgress
    from ftdsl.observe.study import StudyPicture
    from ftdsl.run.control import Seen


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("status", help="show the progress of runs", description=__doc__)
    parser.add_argument("file", metavar="FILE", nargs="?", help="a recipe (default: all runs of the project here)")
    add_recipe_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.set_defaults(run=run)


def home_of_file(args: argparse.Namespace) -> Path:
    """The folder with the runs of the recipe on the command line; the recipe is read only for its name."""
    from ftdsl.language.resolve.resolve import resolve
    from ftdsl.run.project import home_of
    from ftdsl.session import Session

    path, options, session = recipe_path(args.file), options_of(args), Session()
    resolved = resolve(path, path.as_posix(), options, session)
    return home_of(path, resolved.name if resolved else path.stem, options)


def seen_of(args: argparse.Namespace) -> Seen | None:
    """The run of the recipe; None, with a message, if there is none."""
    from ftdsl.run.control import look

    home = home_of_file(args)
    seen = look(home)
    if seen is None:
        print(f"error: {args.file} has not run yet ({home.as_posix()} has no run)", file=sys.stderr)
    return seen


def run(args: argparse.Namespace) -> int:
    """Exit 0; 1 if the recipe has never run."""
    from ftdsl.run.control import homes_below, look
    from ftdsl.run.project import from_here, root_of

    if args.file:
        seen = [seen_of(args)]
        if seen == [None]:
            return 1
    else:
        seen = [look(from_here(home)) for home in homes_below(root_of(Path("here.ft")))]
    runs = [run for run in seen if run is not None]
    if args.json:
        documents = [document(run) for run in runs]
        print(json.dumps({"schema": 1, "runs": documents}, indent=2, ensure_ascii=False))
        return 0
    for at, run in enumerate(runs):
        print("\n".join([*([""] if at else []), *lines(run, time.time())]))
    if not runs:
        print("nothing has run here", file=sys.stderr)
    return 0


def study_of(seen: Seen) -> StudyPicture | None:
    """The study of a run's recipe; None where it has none."""
    from ftdsl.observe.study import read
    from ftdsl.run.project import study_folder

    return read(study_folder(seen.home))


def lines(seen: Seen, now: float) -> list[str]:
    """A run as text: a heading, and one line per stage."""
    from ftdsl.cli.ending import study_lines
    from ftdsl.observe.plain import progress_text
    from ftdsl.observe.progress import Status
    from ftdsl.observe.table import MARKS, columns, ledger, result_text
    from ftdsl.observe.text import duration
    from ftdsl.printable import printable

    run = seen.progress
    who = (
        f"running as process {seen.supervisor}"
        if seen.supervisor
        else "stages run without a supervisor"
        if seen.orphans
        else ""
    )
    who = "stopping" if run.stopping and seen.supervisor else who
    rows = []
    for stage in run.stages:
        running = stage.status is Status.RUNNING
        alive = bool(seen.supervisor) or stage.key in seen.orphans
        mark = "broken off" if running and not alive else MARKS[stage.status]
        text = progress_text(stage, now) if running and alive else result_text(stage)
        if stage.status.ok and stage.message:  # why it was accepted
            text = ", ".join(filter(None, (text, " ".join(printable(stage.message).split()))))
        rows.append(
            (
                f"  {stage.folder}",
                mark,
                duration(stage.elapsed(now)) if stage.started and (stage.ended or alive) else "",
                text,
            )
        )
    head = [f"{run.folder.as_posix()}: {who or 'not running'}", *(columns(rows) if rows else []), *ledger(run)]
    study = study_of(seen)
    return [*head, *(f"  {line}" for line in study_lines(study))] if study else head


def document(seen: Seen) -> dict[str, Any]:
    """A run as data."""
    run, study = seen.progress, study_of(seen)
    stages = [_stage(stage, seen.orphans.get(stage.key)) for stage in run.stages]
    return {
        "run": run.folder.as_posix(), "name": run.name, "running": seen.running, "supervisor": seen.supervisor or None,
        "stopping": run.stopping, "stages": stages,
        **({"study": study.document()} if study else {}),
    }  # fmt: skip


def _stage(stage: StageProgress, orphan: int | str | None) -> dict[str, Any]:
    loss = stage.loss if stage.loss is not None and math.isfinite(stage.loss) else None
    return {
        "stage": stage.key, "folder": stage.folder, "status": stage.status.value, "message": stage.message,
        "what": stage.what, "step": stage.step, "total": stage.total, "loss": loss, "started": stage.started,
        "ended": stage.ended, "left": stage.left(time.time()), "orphan": orphan,
        "ledger": [dict(entry) for entry in stage.ledger],
        "metrics": {name: value for name, value in stage.result.metrics.items() if math.isfinite(value)} if stage.result else {},
    }  # fmt: skip
