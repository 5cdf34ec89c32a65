"""`ftc check FILE…`: all diagnostics of recipes, and of the files LLaMA-Factory, TRL, DeepSpeed and accelerate read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftdsl.cli.common import (
    add_no_data,
    add_recipe_arguments,
    is_folder,
    options_of,
    print_diff,
    read_exactly,
    recipes_in,
    rendered,
    retyped,
    rewrite,
    stdin_text,
)
from ftdsl.printable import one_line, typed
from ftdsl.record import frozen

if TYPE_CHECKING:
    from ftdsl.diagnostics import Diagnostic
    from ftdsl.pipeline import Checked
    from ftdsl.session import Session


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("check", help="report everything that is wrong with a recipe", description=__doc__)
    help = "recipes, YAML, JSON, scripts; a folder: the recipes below it (default: here); `-`: a recipe from stdin"
    parser.add_argument("files", nargs="*", metavar="FILE", default=["."], help=help)
    add_recipe_arguments(parser)
    add_no_data(parser)
    parser.add_argument("--output-format", choices=("text", "json", "github", "sarif"), default="text")
    parser.add_argument("--fix", action="store_true", help="apply safe fixes")
    parser.add_argument("--unsafe-fixes", action="store_true", help="with --fix or --diff: apply guesses too")
    parser.add_argument("--diff", action="store_true", help="show what --fix would change, and change nothing")
    parser.add_argument(
        "--json", action="store_const", const="json", dest="output_format", help="same as --output-format json"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="errors and warnings only")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 without errors (warnings and infos are not errors), else 1."""
    from ftdsl.cli.many import each
    from ftdsl.diagnostics import Severity

    if "-" in args.files and (args.fix or args.diff):
        print("error: --fix and --diff need a file, not stdin", file=sys.stderr)
        return 2
    args.files = recipes_in(args.files)
    written = _mend(args) if args.fix or args.diff else True
    results = each(partial(_check_file, args), args.files)
    diagnostics = _once([diagnostic for result in results for diagnostic in result.diagnostics])
    if args.quiet:
        diagnostics = [diagnostic for diagnostic in diagnostics if diagnostic.severity is not Severity.INFO]
    if args.output_format == "text":
        _text(diagnostics, results, args)
    else:
        renderer = import_module(f"ftdsl.diagnostics.render_{args.output_format}")
        versions = {result.name: result.versions for result in results if result.versions is not None}
        sys.stdout.write(renderer.render(diagnostics, *([versions] if args.output_format == "json" else [])))
    return 1 if not written or any(diagnostic.severity is Severity.ERROR for diagnostic in diagnostics) else 0


@frozen
class FileResult:
    """The check of one file.

    lines: the report if there are no errors; versions: those that it was checked against, for JSON (None without a recipe);
    runnable: whether there is something to run.
    """

    name: str
    diagnostics: list[Diagnostic]
    lines: tuple[str, ...]
    versions: dict[str, Any] | None
    runnable: bool


def _once(diagnostics: list[Diagnostic]) -> list[Diagnostic]:
    """Diagnostics without duplicates: a file may be read both through another one and as an argument."""
    unique: dict[object, Diagnostic] = {}
    for diagnostic in diagnostics:
        unique.setdefault(diagnostic.identity, diagnostic)
    return list(unique.values())


def _check_file(args: argparse.Namespace, name: str) -> FileResult:
    """The check of one file, in this process or in a worker."""
    from ftdsl.session import Files, Session, reason

    if is_folder(name):
        session = Session()
        session.sink.error("FT501", f"there is no recipe below `{name}`", None, help="recipes end in `.ft`")
        return FileResult(name, session.sink.ordered(), (), None, False)
    path = Path(STDIN if name == "-" else name)
    session = Session(elsewhere=args.no_data)
    try:
        session.files = Files({path: stdin_text()} if name == "-" else None)
    except (OSError, UnicodeDecodeError) as error:
        session.sink.error("FT501", f"cannot read stdin: {reason(error)}", None)
        return FileResult(name, session.sink.ordered(), (), None, False)
    try:
        checked = _check(path, args, session)
    except RecursionError:
        session.sink.error("FT065", f"`{name}` is nested too deeply to be read", None)
        return FileResult(name, session.sink.ordered(), (), None, False)
    except OSError as error:
        session.sink.error("FT501", f"`{error.filename or name}`: {reason(error)}", None)
        return FileResult(name, session.sink.ordered(), (), None, False)
    if isinstance(checked, str):
        return FileResult(name, session.sink.ordered(), (f"{one_line(name)}: fine, {checked}",), None, False)
    _rows_cut(checked, session)
    versions = checked.recipe.versions.plain() if checked.recipe else None
    return FileResult(name, session.sink.ordered(), tuple(_fine(name, checked)), versions, bool(checked.plan))


STDIN = "stdin.ft"
"""The name of a recipe from stdin; its paths are relative to the working directory."""


def _check(path: Path, args: argparse.Namespace, session: Session) -> Checked | str:
    """The checked recipe; for another file, its kind."""
    if path.suffix != ".ft" and not _is_recipe(path, session):
        from ftdsl.importers.checking import check as check_other

        return check_other(path, session)
    from ftdsl.pipeline import check

    return check(path, options_of(args), session)


def _is_recipe(path: Path, session: Session) -> bool:
    """Whether a file without a recipe's ending is one; what cannot be read says so as a recipe."""
    from ftdsl.importers.recognise import DOCUMENTS, is_recipe

    if path.suffix in (*DOCUMENTS, ".sh"):
        return False
    try:
        return is_recipe(path.name, session.files.text(path))
    except (OSError, UnicodeDecodeError):
        return True


def _fine(name: str, checked: Checked) -> Iterator[str]:
    stages = checked.plan.stages if checked.plan else ()
    stage_count = f"{len(stages)} stage{'s' * (len(stages) != 1)}"
    shown = one_line(name)
    yield f"{shown}: fine, {stage_count}" if stages else f"{shown}: fine; nothing to run in it"
    if checked.recipe and (versions := checked.recipe.versions.notable):
        yield f"  checked for {versions}"
    for stage in stages:
        for equation in stage.equations:
            yield f"  {stage.key}: {equation}"


def _rows_cut(checked: Checked, session: Session) -> None:
    """Row lengths measured by an earlier run."""
    if checked.plan is None or checked.recipe is None:
        return
    folder = checked.recipe.folder.resolve()
    if not any((parent / "runs").is_dir() for parent in (folder, *folder.parents)):
        return
    from ftdsl.run.lengths import known
    from ftdsl.run.project import home_of

    home = home_of(Path(checked.recipe.span.source.name), checked.recipe.name)
    if home.is_dir():
        for warning in known(checked.plan, checked.jobs, home):
            session.sink.add(warning)


def _mend(args: argparse.Namespace) -> bool:
    """Apply fixes to each file and write it, or show the difference. False when one could not be written."""
    from ftdsl.cli.mending import mended

    written = True
    for name in args.files:
        path = Path(name)
        if is_folder(name):
            continue
        before = read_exactly(path)
        if before is None:
            continue
        result = mended(path, before, partial(_examined, args), unsafe=args.unsafe_fixes)
        for where, title in result.refused:
            print(f"note: {where}: not applied, it would add an error: {title}", file=sys.stderr)
        if args.diff:
            print_diff(name, before, result.text, "fixed")
        elif result.text != before:
            if rewrite(path, before, result.text):
                print(f"{one_line(name)}: {result.count} fixed", file=sys.stderr)
            else:
                written = False
    return written


def _examined(args: argparse.Namespace, path: Path, text: str) -> list[Diagnostic]:
    """The diagnostics of a file with this text."""
    from ftdsl.session import Files, Session

    session = Session(Files({path: text}), elsewhere=args.no_data)
    _check(path, args, session)
    return session.sink.ordered()


def _text(diagnostics: list[Diagnostic], results: list[FileResult], args: argparse.Namespace) -> None:
    from ftdsl.diagnostics import Severity
    from ftdsl.diagnostics.render_text import summary

    if diagnostics:
        print(rendered(diagnostics, sys.stdout))
    if counts := summary(diagnostics):
        print(f"\n{counts}")
    if args.quiet:
        return
    if any(diagnostic.severity is Severity.ERROR for diagnostic in diagnostics):
        _offer_fixes(diagnostics, args)
        return
    for result in results:
        print("\n".join(result.lines))
    if len(results) == 1 and results[0].runnable and args.files != ["-"]:
        print(f"next: ftc run {retyped(args.files[0], args)}", file=sys.stderr)


def _offer_fixes(diagnostics: list[Diagnostic], args: argparse.Namespace) -> None:
    """The command that applies the fixes that are left; a guess (`alpa`: `alpha`) is not applied by `--fix` alone."""
    fixes = [diagnostic.fix for diagnostic in diagnostics if diagnostic.fix is not None]
    guesses = any(not fix.safe for fix in fixes)
    if args.files == ["-"] or len(args.files) > 3 or not fixes or args.unsafe_fixes or (args.fix and not guesses):
        return
    flags = "--fix --unsafe-fixes" if args.fix or all(not fix.safe for fix in fixes) else "--fix"
    files = " ".join(typed(name) for name in args.files)
    print(f"next: ftc check {flags} {files} (with --diff: only shows it)", file=sys.stderr)
