"""`ftc diagnose PATH`: what ailed a training, read from what it logged, and which line of the recipe decides it.

PATH: a recipe (its newest run), a run folder, an engine's output folder, or a file: metrics.jsonl, trainer_log.jsonl,
trainer_state.json, or the text that a trainer printed. Files of anybody's trainings can be read, not only of our own. Of a
program that broke, the cause is read from its log."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ftdsl.cli import diagnose_rows
from ftdsl.cli.common import (
    add_recipe_arguments,
    print_diff,
    print_json,
    read_exactly,
    rewrite,
)
from ftdsl.cli.examined import document, remedies_in

if TYPE_CHECKING:
    from ftdsl.diagnose.examined import Examined
    from ftdsl.run.remedies import Remedies


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("diagnose", help="find what ailed a training", description=__doc__)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a recipe, a run, a folder, a log")
    add_recipe_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--apply", type=int, metavar="N", help="write change N into the recipe")
    parser.add_argument(
        "--diff", action="store_true", help="with --apply or --drop: show the change, and change nothing"
    )
    diagnose_rows.register(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 where everything is healthy; 1 where something was found; 2 where a path cannot be read."""
    from ftdsl.diagnose.examined import examine
    from ftdsl.diagnose.read import UnreadableError

    if (args.apply is not None or args.rows) and len(args.paths) > 1:
        print(f"error: {'--rows' if args.rows else '--apply'} is for one run", file=sys.stderr)
        return 2
    if args.drop and not args.rows:
        print("error: --drop needs --rows: the steps whose rows are meant", file=sys.stderr)
        return 2
    results: list[tuple[Examined, Remedies]] = []
    failed = False
    for text in args.paths:
        path = run_of(text, args)
        try:
            if path is None:
                raise UnreadableError(f"{text}: this recipe has not run yet")
            examined = examine(path)
        except (OSError, UnreadableError) as error:
            why = (
                str(error)
                if isinstance(error, UnreadableError)
                else f"{text}: {(error.strerror or str(error)).lower()}"
            )
            print(f"error: {why}", file=sys.stderr)
            failed = True
            continue
        if args.rows:
            return diagnose_rows.run(args, examined)
        results.append((examined, remedies_in(examined)))
    if args.apply is not None:
        return 2 if failed else _apply(args, results[0][1])
    if args.json:
        print_json({"schema": 1, "diagnoses": [document(examined, remedies) for examined, remedies in results]})
    else:
        for at, (examined, remedies) in enumerate(results):
            print("\n".join([*([""] if at else []), *lines(examined, remedies)]))
        _hint(args, results)
    return 2 if failed else int(any(examined.ailing for examined, _ in results))


def run_of(text: str, args: argparse.Namespace) -> Path | None:
    """What a path stands for: the newest run of a recipe or of its folder of runs, else itself. None for a recipe that has not
    run.
    """
    from ftdsl.run.control import look

    if not text.endswith(".ft"):
        seen = look(Path(text))
        return seen.progress.folder if seen else Path(text)
    from ftdsl.cli.status import home_of_file

    seen = look(home_of_file(argparse.Namespace(**{**vars(args), "file": text})))
    return seen.progress.folder if seen else None


# --- for a person


def lines(examined: Examined, remedies: Remedies) -> Iterator[str]:
    """What was found, each with its evidence, the line that decides it, and numbered changes."""
    number = 0
    for training in examined.trainings:
        name = training.curves.source
        if training.cause is not None:
            where = f" (line {training.cause.line})" if training.cause.line else ""
            yield f"{name}: {training.cause.message}{where} [{training.cause.code}]"
            yield from _decides(remedies, training.key, training.cause.keys)
            if training.cause.help:
                yield f"  = help: {training.cause.help}"
        if not training.findings and training.cause is None:
            count = len(training.curves.loss)
            yield (
                f"{name}: healthy ({count} logged steps)"
                if training.enough
                else f"{name}: too few steps to judge ({count})"
            )
        for finding in training.findings:
            yield f"{name}: {finding.message} [{finding.code} {finding.name}, {100 * finding.confidence:.0f} % sure]"
            yield from (f"  - {text}" for text in finding.evidence)
            yield from _decides(remedies, training.key, finding.keys)
            yield f"  = help: {training.remedy(finding)}"
            for change in remedies.changes(training, finding):
                number += 1
                yield f"  {number}. {change.text}"


def _decides(remedies: Remedies, key: str, keys: tuple[str, ...]) -> Iterator[str]:
    """The recipe's line that decides it, where the run is one of ours."""
    if line := remedies.line(key, keys):
        yield f"  --> {line}"


def _hint(args: argparse.Namespace, results: list[tuple[Examined, Remedies]]) -> None:
    from ftdsl.printable import typed

    findings = [finding for examined, _ in results for training in examined.trainings for finding in training.findings]
    if len(results) == 1 and results[0][1].recipe is not None and results[0][1].count(results[0][0]):
        print(f"next: ftc diagnose {typed(args.paths[0])} --apply 1 --diff", file=sys.stderr)
    elif findings:
        print(f"next: ftc explain {findings[0].code}", file=sys.stderr)


# --- changes


def _apply(args: argparse.Namespace, remedies: Remedies) -> int:
    """Write a change into the recipe: beside, then renamed."""
    from ftdsl.cli.edited import edited

    changes = remedies.all
    if remedies.recipe is None or not changes:
        why = (
            "nothing here has a change to apply"
            if remedies.recipe
            else "this is no run of a recipe: there is nothing to change"
        )
        print(f"error: {why}", file=sys.stderr)
        return 2
    if not 1 <= args.apply <= len(changes):
        print(f"error: there are {len(changes)} changes", file=sys.stderr)
        return 2
    stage, change = changes[args.apply - 1]
    path = remedies.recipe
    before = read_exactly(path)
    if before is None:
        return 1
    after = edited(path, before, stage, [(change.key, change.value)])
    if after is None:
        return 1
    if args.diff:
        print_diff(path.as_posix(), before, after, f"change {args.apply}")
        return 0
    if not rewrite(path, before, after):
        return 1
    print(f"{path.as_posix()}: {change.text}", file=sys.stderr)
    print(f"next: ftc run {path.as_posix()}", file=sys.stderr)
    return 0
