"""`ftc VERB`: one parser, one module per verb. Data goes to stdout, messages to stderr."""

from __future__ import annotations

import argparse
import gc
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn

from ftdsl import __version__

VERBS = (
    "init",
    "import",
    "check",
    "fmt",
    "plan",
    "compile",
    "run",
    "graph",
    "explain",
    "diff",
    "upgrade",
    "engine",
    "completion",
)
"""In the order of `ftc --help`; each is a module of this package with `register(subparsers)` and `run(args) -> int`."""
MODULES = {"import": "imports"}
"""Verbs whose module has another name, since theirs is a Python keyword."""

EPILOG = """\
exit codes: 0 ok, 1 the recipe or run has errors, 2 wrong usage, 3 a gate failed, 4 something would run (plan), 130 interrupted
start with: ftc init && ftc check quickstart.ft && ftc run quickstart.ft"""


class Parser(argparse.ArgumentParser):
    """Suggests a correction for an unknown word.

    Sets the width of formatters: each argument creates one, and without a width it imports shutil, which is slow.
    """

    def error(self, message: str) -> NoReturn:
        match = re.match(r"argument (.+): invalid choice: '(.*)' \(choose from (.+)\)", message)
        if match:
            from ftdsl.diagnostics.suggest import closest

            guess = closest(match[2], re.findall(r"'([^']+)'", match[3]))
            message = f"{match[1]}: there is no `{match[2]}`" + (f"; did you mean `{guess}`?" if guess else "")
        super().error(message)

    def _get_formatter(self) -> argparse.HelpFormatter:
        try:
            width = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
        except (ValueError, OSError):
            width = 80
        return self.formatter_class(prog=self.prog, width=width - 2)  # type: ignore[call-arg]


def parser(verbs: Sequence[str] = VERBS) -> argparse.ArgumentParser:
    """The command-line parser of some verbs; of all of them for `ftc --help` and the completion generator."""
    top = Parser(
        prog="ftc",
        description="Launch LLM fine-tuning from a recipe.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"ftc {__version__}")
    subparsers = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in verbs:
        import_module(f"ftdsl.cli.{MODULES.get(verb, verb)}").register(subparsers)
    return top


def main(argv: list[str] | None = None) -> int:
    """Entry point of `ftc`. Never shows a traceback, unless FTC_TRACEBACK is set."""
    arguments = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, TextIOWrapper
        ):  # a file name may not be valid text, and a terminal may not support every character
            stream.reconfigure(errors="backslashreplace")
    args = parser(arguments[:1] if arguments and arguments[0] in VERBS else VERBS).parse_args(arguments)
    gc.disable()  # the process is short, and trees have few cycles; ftc run enables it again
    sys.setrecursionlimit(20_000)  # long chains of names are evaluated by recursion
    try:
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except RecursionError:
        print("error: this recipe is nested too deeply to be read", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or 'a file'}: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        return 1
    except Exception as error:
        if os.environ.get("FTC_TRACEBACK"):
            raise
        _internal(error)
        return 1


def _internal(error: Exception) -> None:
    print(f"error: bug in ftc: {type(error).__name__}: {error}", file=sys.stderr)
    print("  = help: please report it with the recipe; FTC_TRACEBACK=1 shows where it happened", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
