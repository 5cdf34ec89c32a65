"""`ftc search WHAT FILE`: what a recipe's study has found: all trials, the best one, which dimensions matter, all as data."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftdsl.cli.common import add_recipe_arguments, options_of, print_diff, read_exactly, recipe_path, rewrite
from ftdsl.cli.status import home_of_file

if TYPE_CHECKING:
    from ftdsl.observe.study import StudyPicture, TrialRow


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("search", help="show what a search has found", description=__doc__)
    whats = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for name, help in (
        ("show", "all trials, the best first"),
        ("best", "the best trial; with several goals those that no other beats"),
        ("importance", "how much of the differences each dimension explains"),
        ("export", "all trials as CSV or JSON"),
        ("report", "a page with history, importances, slices and curves"),
    ):
        what = whats.add_parser(name, help=help, description=help)
        what.add_argument("file", metavar="FILE", help="a recipe")
        add_recipe_arguments(what)
        if name in ("show", "best", "importance"):
            what.add_argument("--json", action="store_true", help="one JSON document on stdout")
        if name == "best":
            what.add_argument("--apply", action="store_true", help="write its values into the recipe")
            what.add_argument("--diff", action="store_true", help="with --apply: show the change, and change nothing")
            what.add_argument("--trial", type=int, metavar="N", help="this trial instead")
        if name == "export":
            what.add_argument("--format", choices=("csv", "json"), default="csv", help="csv by default")
        if name == "report":
            what.add_argument(
                "-o", "--out", type=Path, metavar="FILE", help="where to (default: in the study's folder)"
            )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0; 1 where there is no study, or no trial to show; 2 for a trial there is not."""
    from ftdsl.observe.study import read
    from ftdsl.run.project import study_folder

    home = home_of_file(args)
    folder = study_folder(home)
    picture = read(folder)
    if picture is None:
        print(f"error: {args.file} has searched nothing yet ({folder.as_posix()} has no study)", file=sys.stderr)
        return 1
    if args.what == "show":
        return _show(picture, folder, args)
    if args.what == "best":
        return _best(picture, args)
    if args.what == "export":
        return _export(picture, args)
    return (
        _importance(picture, folder, home, args) if args.what == "importance" else _report(picture, folder, home, args)
    )


def _show(picture: StudyPicture, folder: Path, args: argparse.Namespace) -> int:
    from ftdsl.cli.ending import study_lines

    if args.json:
        print(json.dumps(picture.document(), indent=2, ensure_ascii=False))
        return 0
    print("\n".join([f"{folder.as_posix()}, in {picture.storage}", *study_lines(picture, most=0)]))
    return 0


def _best(picture: StudyPicture, args: argparse.Namespace) -> int:
    chosen = picture.front()
    if args.trial is not None:
        chosen = [row for row in picture.trials if row.number == args.trial]
        if not chosen:
            print(f"error: the study has no trial {args.trial}", file=sys.stderr)
            return 2
    if not chosen:
        print("error: no trial has ended with a value yet", file=sys.stderr)
        return 1
    if args.apply:
        return _apply(chosen[0], args)
    if args.json:
        print(json.dumps({"schema": 1, "trials": [_document(row) for row in chosen]}, indent=2, ensure_ascii=False))
        return 0
    for row in chosen:
        print("\n".join(_lines(row, picture)))
    if args.trial is None:
        print(f"next: ftc search best {args.file} --apply writes them into the recipe", file=sys.stderr)
    return 0


def _document(row: TrialRow) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(row)


def _lines(row: TrialRow, picture: StudyPicture) -> list[str]:
    from ftdsl.observe.study import values_text
    from ftdsl.observe.table import columns

    head = f"trial {row.number}: {values_text(row, picture) or row.state}{f' ({row.reason})' if row.reason else ''}"
    run = [f"  run {row.run}"] if row.run else []
    return [head, *(f"  {line}" for line in columns([(f"{n} =", value) for n, value in row.parameters.items()])), *run]


def _apply(row: TrialRow, args: argparse.Namespace) -> int:
    """Each `~` becomes `=` and the trial's value, where it is written."""
    from ftdsl.language.resolve.resolve import resolve
    from ftdsl.session import Session

    path = recipe_path(args.file)
    before = read_exactly(path)
    if before is None:
        return 1
    resolved = resolve(path, path.as_posix(), options_of(args), Session())
    spaces = (
        {name: dimension for stage in resolved.stages for name, dimension in stage.dimensions.items()}
        if resolved
        else {}
    )
    if not spaces:
        print(f"error: {args.file} searches nothing any more", file=sys.stderr)
        return 1
    after = before
    for name, dimension in sorted(spaces.items(), key=lambda item: -item[1].span.start):
        if name not in row.parameters:
            continue
        span = dimension.span
        if span.source.text != before:
            print(f"error: `{name}` is written in {span.source.name}, which is not this recipe", file=sys.stderr)
            return 1
        binder = before.rindex("~", 0, span.start)
        after = f"{after[:binder]}= {row.parameters[name]}{after[span.end :]}"
    if args.diff:
        print_diff(args.file, before, after, f"trial {row.number}")
        return 0
    if not rewrite(path, before, after):
        return 1
    values = ", ".join(f"{name} = {value}" for name, value in row.parameters.items())
    print(f"{args.file}: {values} (trial {row.number})", file=sys.stderr)
    return 0


def _export(picture: StudyPicture, args: argparse.Namespace) -> int:
    if args.format == "json":
        print(json.dumps(picture.document(), indent=2, ensure_ascii=False))
        return 0
    goals, names = [name for name, _ in picture.goals], list(picture.dimensions)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["trial", "state", *goals, *names, "seconds", "step", "reason", "run"])
    for row in picture.trials:
        seconds = round(row.ended - row.started, 3) if row.started and row.ended else ""
        values = [row.values.get(name, "") for name in goals]
        parameters = [row.parameters.get(name, "") for name in names]
        step = "" if row.step is None else row.step
        writer.writerow([row.number, row.state, *values, *parameters, seconds, step, row.reason, row.run])
    print(out.getvalue(), end="")
    return 0


def _importance(picture: StudyPicture, folder: Path, home: Path, args: argparse.Namespace) -> int:
    from ftdsl.observe.table import columns
    from ftdsl.search.analysis import importances
    from ftdsl.search.errors import MissingPackageError, StudyError

    try:
        importance = importances(picture, folder, recipe_path(args.file), options_of(args))
    except (MissingPackageError, StudyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps({"schema": 1, "importance": importance}, indent=2, ensure_ascii=False))
        return 0
    for goal, shares in importance.items():
        if not shares:
            print(f"{goal}: too few finished trials to tell")
            continue
        rows = [(f"  {name}", f"{share:.0%}", "█" * round(share * 30)) for name, share in shares.items()]
        print("\n".join([goal, *columns(rows)]))
    return 0


def _report(picture: StudyPicture, folder: Path, home: Path, args: argparse.Namespace) -> int:
    from ftdsl.search.analysis import report
    from ftdsl.search.errors import MissingPackageError, StudyError
    from ftdsl.storage import write_file

    try:
        page = report(picture, folder, recipe_path(args.file), options_of(args))
    except (MissingPackageError, StudyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    path = args.out or folder / "report.html"
    write_file(path, page.encode())
    print(path.as_posix())
    return 0
