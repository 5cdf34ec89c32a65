"""`ftc report RUN…`: one page about a run, or several over each other: curves, diagnosis, plan, metrics, lineage, files.

RUN: a recipe (its newest run), or a run folder. The page needs nothing beside it and no network. `--markdown` is for a pull
request; `--card` is a README.md with the Hub's metadata."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ftdsl.cli.common import add_recipe_arguments

if TYPE_CHECKING:
    from ftdsl.plan.plan import Plan


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("report", help="write a page about a run", description=__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a recipe, or a run folder; several are compared")
    add_recipe_arguments(parser)
    parser.add_argument("-o", "--output", default="", metavar="FILE", help="default: report.html; Markdown: stdout")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--markdown", action="store_true", help="Markdown instead of a page")
    kinds.add_argument("--card", action="store_true", help="a model card (README.md) of what one run made")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0; 1 when the file cannot be written; 2 when there is no such run, or plotly is not installed."""
    from ftdsl.cli.diagnose import run_of
    from ftdsl.report.gather import NoRunError, RunReport, gather

    reports: list[RunReport] = []
    for text in args.runs:
        folder = run_of(text, args)
        try:
            if folder is None:
                raise NoRunError(f"{text}: this recipe has not run yet")
            reports.append(gather(folder, _plan_of(folder)))
        except (NoRunError, OSError) as error:
            why = str(error) if isinstance(error, NoRunError) else f"{text}: {(error.strerror or str(error)).lower()}"
            print(f"error: {why}", file=sys.stderr)
            return 2
    if args.card and len(reports) > 1:
        print("error: a model card is of one run", file=sys.stderr)
        return 2
    if args.markdown or args.card:
        from ftdsl.report.card import card
        from ftdsl.report.markdown import markdown

        document = card(reports[0]) if args.card else markdown(reports)
        if not args.output:
            print(document, end="")
            return 0
    else:
        from ftdsl.report.page import NoPlotlyError, page

        try:
            document = page(reports)
        except NoPlotlyError:
            print("error: the page is drawn by plotly, which is not installed", file=sys.stderr)
            print("  = help: pip install 'ftdsl[report]'; or --markdown, which needs nothing", file=sys.stderr)
            return 2
    return _write(Path(args.output or "report.html"), document)


def _plan_of(folder: Path) -> Plan | None:
    """The plan of the run's recipe as it is now; None where it is gone or has errors."""
    from ftdsl.pipeline import check
    from ftdsl.run.recipe_of import recipe_of
    from ftdsl.session import Session

    origin = recipe_of(folder)
    return check(origin.recipe, origin.options, Session()).plan if origin else None


def _write(path: Path, document: str) -> int:
    from ftdsl.printable import typed
    from ftdsl.storage import write_file

    content = document.encode("utf-8", "backslashreplace")
    try:
        write_file(path, content)
    except OSError as error:
        print(f"error: {path.as_posix()}: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        return 1
    print(f"wrote {typed(path.as_posix())} ({len(content) / 1e6:.1f} MB)", file=sys.stderr)
    return 0
