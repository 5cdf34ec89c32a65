"""Common to the verbs: arguments of recipes, reading and rewriting files, showing diagnostics."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from ftdsl.diagnostics import Diagnostic, Sink
    from ftdsl.language.resolve.resolve import Options
    from ftdsl.targets.compiled import Compiled


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """`--profile`, `--set`, `-p`: options of every verb that reads a recipe."""
    parser.add_argument("--profile", action="append", default=[], metavar="P", help="apply a profile (may be repeated)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="K=V", help="override a key: --set sft.optim.lr=1e-5"
    )
    parser.add_argument("-p", "--param", action="append", default=[], metavar="NAME=VALUE", help="set a `param`")


def add_no_data(parser: argparse.ArgumentParser) -> None:
    """`--no-data`, for CI and for compiling on another machine than the one that trains."""
    parser.add_argument("--no-data", action="store_true", help="the data is on another machine: ignore missing files")


def retyped(file: str, args: argparse.Namespace) -> str:
    """A recipe as it was named on the command line, with the options that select its variant: for the next command."""
    from ftdsl.printable import typed

    flags = (("--profile", args.profile), ("--set", args.set), ("-p", args.param))
    return " ".join([typed(file), *(f"{flag} {typed(value)}" for flag, values in flags for value in values)])


def options_of(args: argparse.Namespace) -> Options:
    from ftdsl.language.resolve.resolve import Options

    return Options(tuple(args.profile), tuple(args.set), tuple(args.param))


def color(stream: TextIO) -> bool:
    """Colour for a terminal, unless NO_COLOR is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width(stream: TextIO) -> int:
    """Columns of a terminal; those of `render` for a file or pipe."""
    from ftdsl.diagnostics.render_text import WIDTH

    if not stream.isatty():
        return WIDTH
    declared = os.environ.get("COLUMNS", "")
    if declared.isdecimal() and int(declared):
        return int(declared)
    try:
        return os.get_terminal_size(stream.fileno()).columns or WIDTH
    except OSError:
        return WIDTH


def show(sink: Sink, stream: TextIO | None = None, *, without: str = "") -> None:
    """Print all diagnostics as text, by default on stderr. without: the code of lists that are left out."""
    stream = stream or sys.stderr
    if diagnostics := [
        diagnostic for diagnostic in sink.ordered() if diagnostic.code != without or not diagnostic.notes
    ]:
        print(rendered(diagnostics, stream), file=stream)


def rendered(diagnostics: Sequence[Diagnostic], stream: TextIO) -> str:
    """Diagnostics as text, in the colours and columns of a stream."""
    from ftdsl.diagnostics.render_text import render

    return render(diagnostics, color=color(stream), width=width(stream))


def recipe_path(text: str) -> Path:
    """The path of a recipe; a folder stands for the only recipe in it."""
    path = Path(text)
    if path.is_dir():
        recipes = sorted(path.glob("*.ft"))
        if len(recipes) == 1:
            return recipes[0]
    return path


PASSED_OVER = ("build", "runs", "node_modules")
"""Folders with generated files."""


def recipes_in(names: list[str]) -> list[str]:
    """The given files, and for each folder the recipes below it, sorted, without hidden folders and folders of results.

    A folder without recipes stays in the list, so that it is reported.
    """
    return [path for name in names for path in (_below(Path(name)) if is_folder(name) else (name,))]


def is_folder(name: str) -> bool:
    """Whether a folder is named; a name that no file system takes names none, and is reported like any file that is missing."""
    try:
        return Path(name).is_dir()
    except OSError:
        return False


def _below(folder: Path) -> list[str]:
    recipes = []
    for home, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in PASSED_OVER)
        recipes += [(Path(home) / name).as_posix() for name in sorted(files) if name.endswith(".ft")]
    return recipes or [folder.as_posix()]


def keep_lock(compiled: Compiled) -> None:
    """Update the lock beside the recipe; if it cannot be written, print a note and continue."""
    from ftdsl.storage import write_file

    path, content = compiled.lock
    try:
        write_file(path, content)
    except OSError as error:
        print(f"note: {path} could not be written ({(error.strerror or str(error)).lower()})", file=sys.stderr)


def read_exactly(path: Path) -> str | None:
    """A text with its original line ends; None, with a message, if it is not UTF-8. Raises: OSError."""
    from ftdsl.session import read_bytes

    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        print(f"error: {path} is not a UTF-8 text", file=sys.stderr)
        return None


def stdin_text() -> str:
    """The text on stdin. Raises: TooLargeError, UnicodeDecodeError."""
    from ftdsl.session import LIMIT, TooLargeError

    if (raw := getattr(sys.stdin, "buffer", None)) is None:  # an editor's, or a test's
        return sys.stdin.read()
    content: bytes = raw.read(LIMIT + 1)
    if len(content) > LIMIT:
        raise TooLargeError(errno.EFBIG, f"it is larger than {LIMIT >> 20} megabytes", "stdin")
    return content.decode("utf-8").replace("\r\n", "\n")


def read_stdin() -> str | None:
    """The text on stdin; None, with a message, if it is not UTF-8. Raises: TooLargeError."""
    try:
        return stdin_text()
    except UnicodeDecodeError:
        print("error: stdin is not a UTF-8 text", file=sys.stderr)
        return None


def print_json(data: object) -> None:
    """Print a JSON document on stdout; values that JSON does not have (`inf`, a date, bytes) become texts."""
    import json

    print(json.dumps(_plain(data), indent=2, ensure_ascii=False))


def _plain(data: object) -> object:
    import math

    if isinstance(data, dict):
        return {str(name): _plain(value) for name, value in data.items()}
    if isinstance(data, list | tuple | set | frozenset):
        return [_plain(item) for item in data]
    if isinstance(data, float) and not math.isfinite(data):
        return str(data)
    return data if data is None or isinstance(data, bool | int | float | str) else str(data)


def rewrite(path: Path, before: str, text: str) -> bool:
    """Write a text of the user's anew, once it is proven to read as well as the one `before`. False, and a message, when
    that fails, or the path is a link that leads out of its project (within it, links are followed).

    Raises: OSError.
    """
    from ftdsl.storage import write_file

    if _unreadable(path, text) and not _unreadable(path, before):
        print(f"error: {path}: ftc has a bug here: the file could not be read any more; not changed", file=sys.stderr)
        print("  = help: please report it with the file", file=sys.stderr)
        return False
    if not path.is_symlink():
        write_file(path, text.encode())
        return True
    project = _project(path)
    target = Path(os.path.realpath(path))
    inside = target.relative_to(project).parts if target.is_relative_to(project) else (".",)
    if target.suffix != path.suffix or any(part.startswith(".") for part in inside):
        print(f"error: {path} is a link to {target}, outside of its project: not changed", file=sys.stderr)
        print(f"  = help: name the file itself: {target}", file=sys.stderr)
        return False
    write_file(target, text.encode(), root=project)
    return True


def _unreadable(path: Path, text: str) -> bool:
    """Whether a recipe, YAML or JSON cannot be read; of other files nothing is known."""
    from ftdsl.diagnostics import Sink
    from ftdsl.source import Source

    sink = Sink()
    if path.suffix == ".ft":
        from ftdsl.language.parser import parse

        parse(Source(path.name, text), sink)
    elif path.suffix in (".yaml", ".yml", ".json"):
        from ftdsl.language.yaml_tree import read

        read(Source(path.name, text), sink)
    return sink.failed


def _project(path: Path) -> Path:
    """The root of the repository that a file belongs to, links resolved; without one, the file's own folder."""
    folder = Path(os.path.realpath(path.parent))
    return next((above for above in (folder, *folder.parents) if (above / ".git").exists()), folder)


def print_exactly(text: str) -> None:
    """A file's own text on stdout: as it is into a file or a pipe."""
    from ftdsl.cli.streams import Stream

    if isinstance(sys.stdout, Stream):
        sys.stdout.write_exactly(text)
    else:
        sys.stdout.write(text)


def print_diff(name: str, before: str, after: str, what: str) -> None:
    """Print the difference between a recipe and its new text."""
    import difflib

    sys.stdout.writelines(
        difflib.unified_diff(before.splitlines(True), after.splitlines(True), name, f"{name} ({what})")
    )
