"""`ftc VERB`: one parser, one module per verb. Data goes to stdout, messages to stderr."""

from __future__ import annotations

import argparse
import gc
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

from ftdsl import __version__
from ftdsl.cli.streams import ENCODING, OutputError, Stream, guarded

VERBS = (
    "init",
    "import",
    "check",
    "fmt",
    "plan",
    "data",
    "compile",
    "run",
    "status",
    "watch",
    "attach",
    "logs",
    "diagnose",
    "report",
    "cancel",
    "accept",
    "clean",
    "graph",
    "explain",
    "diff",
    "upgrade",
    "engine",
    "doctor",
    "models",
    "search",
    "measurements",
    "completion",
    "lsp",
    "mcp",
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

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As argparse's, but what a verb does not know is reported by that verb, which knows its own options."""
        namespace, extras = super().parse_known_args(args, namespace)
        if extras:
            self._refuse(extras)
        return namespace, extras

    def _refuse(self, extras: Sequence[str]) -> NoReturn:
        from ftdsl.cli.habits import option_meant

        word = next((word for word in extras if word.startswith("-")), extras[0])
        if not word.startswith("-"):
            self.exit(2, f"{self.prog}: error: unexpected argument `{word}`; see {self.prog} --help\n")
        options = [name for action in self._actions for name in action.option_strings]
        hint = option_meant(word, options) or f"see {self.prog} --help"
        self.exit(2, f"{self.prog}: error: there is no option `{word.partition('=')[0]}`; {hint}\n")

    def error(self, message: str) -> NoReturn:
        match = re.match(r"argument (.+): invalid choice: '(.*)' \(choose from (.+)\)", message)
        if match and match[1] == "VERB":
            from ftdsl.cli.habits import verb_meant

            guess = verb_meant(match[2], VERBS)
            hint = f"did you mean `ftc {guess}`?" if guess else "see ftc --help"
            self.exit(2, f"ftc: error: there is no verb `{match[2]}`; {hint}\n")
        if match:
            from ftdsl.diagnostics.suggest import closest

            guess = closest(match[2], re.findall(r"'([^']+)'", match[3])) or ""
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
    """Entry point of `ftc`. Never lets a traceback out, unless FTC_TRACEBACK is set."""
    if argv is None and sys.getfilesystemencoding() != "utf-8":
        _again_in_utf8()
    given = sys.argv[1:] if argv is None else argv
    with guarded() as out:
        try:
            status = _status(given, out)
        except SystemExit as leaving:  # argparse: help, or wrong usage
            with suppress(OSError):
                out.flush()
            status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        lost = _lost(out)
        return status or int(lost)


def _again_in_utf8() -> None:
    """Start again in Python's UTF-8 mode: in a locale of ASCII alone no path of a recipe with other characters can be opened.
    What is printed stays in the locale's encoding. Returns where that cannot be.
    """
    env = {**os.environ, "PYTHONUTF8": "1", ENCODING: getattr(sys.stdout, "encoding", None) or "ascii"}
    with suppress(OSError):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], env)


def _lost(out: Stream) -> bool:
    """Whether something could not be printed; then it is said."""
    if out.lost:
        print("error: stdout is closed: what was to be printed is lost", file=sys.stderr)
    if out.failure is not None:
        print(f"error: stdout: {out.failure.strerror}", file=sys.stderr)
    return out.lost or out.failure is not None


def _status(given: list[str], out: Stream) -> int:
    """The exit status of a command line, everything printed."""
    if given[:1] == ["help"]:
        given = [*given[1:2], "--help"]
    try:
        args = parser(given[:1] if given and given[0] in VERBS else VERBS).parse_args(given)
        gc.disable()  # short-lived, and trees hold no cycles worth a search; ftc run turns it on again
        sys.setrecursionlimit(20_000)  # long chains of names are evaluated by recursion
        status: int = args.run(args)
        out.flush()
        return status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        out.silence()
        return 1
    except OutputError:
        return 1
    except RecursionError:
        print("error: this recipe is nested too deeply to be read", file=sys.stderr)
        return 1
    except OSError as error:
        from ftdsl.storage import sentence

        print(f"error: {sentence(error)}", file=sys.stderr)
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
