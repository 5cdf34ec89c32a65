"""What the verbs share: the arguments of recipes, and how diagnostics are shown."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from ftdsl.diagnostics import Sink
    from ftdsl.language.resolve.resolve import Options
    from ftdsl.targets.compiled import Compiled


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """`--profile`, `--set`, `-p`: every verb that reads a recipe takes them."""
    parser.add_argument("--profile", action="append", default=[], metavar="P", help="apply a profile (may be repeated)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="K=V", help="override a key: --set sft.optim.lr=1e-5"
    )
    parser.add_argument("-p", "--param", action="append", default=[], metavar="NAME=VALUE", help="set a `param`")


def add_no_data(parser: argparse.ArgumentParser) -> None:
    """`--no-data`, for CI and for compiling on another machine than the one that trains."""
    parser.add_argument("--no-data", action="store_true", help="its files lie on another machine: none is missed here")


def options_of(args: argparse.Namespace) -> Options:
    from ftdsl.language.resolve.resolve import Options

    return Options(tuple(args.profile), tuple(args.set), tuple(args.param))


def color(stream: TextIO) -> bool:
    """Colour for a terminal, unless NO_COLOR is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def show(sink: Sink, stream: TextIO | None = None) -> None:
    """All diagnostics as text; on stderr without a stream."""
    from ftdsl.diagnostics.render_text import render

    stream = stream or sys.stderr
    if len(sink):
        print(render(sink.ordered(), color=color(stream)), file=stream)


def recipe_path(text: str) -> Path:
    """A recipe's path as given; a folder means the one recipe in it."""
    path = Path(text)
    if path.is_dir():
        found = sorted(path.glob("*.ft"))
        if len(found) == 1:
            return found[0]
    return path


PASSED_OVER = ("build", "runs", "node_modules")
"""Folders that hold what was made, not what was written."""


def recipes_in(names: list[str]) -> list[str]:
    """The files named, and for each folder the recipes below it, sorted; hidden folders and those of results are passed over.

    A folder without any stays, so that it is said.
    """
    return [found for name in names for found in (_below(Path(name)) if is_folder(name) else (name,))]


def is_folder(name: str) -> bool:
    """Whether a folder is named; a name that no file system takes names none, and is reported like any file that is missing."""
    try:
        return Path(name).is_dir()
    except OSError:
        return False


def _below(folder: Path) -> list[str]:
    found = []
    for home, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith(".") and one not in PASSED_OVER)
        found += [(Path(home) / one).as_posix() for one in sorted(files) if one.endswith(".ft")]
    return found or [folder.as_posix()]


def keep_lock(compiled: Compiled) -> None:
    """Bring the lock beside the recipe up to date; where that cannot be written, say so and go on."""
    from ftdsl.storage import write_file

    path, content = compiled.lock
    try:
        write_file(path, content)
    except OSError as error:
        print(f"note: {path} could not be written ({(error.strerror or str(error)).lower()})", file=sys.stderr)


def read_exactly(path: Path) -> str | None:
    """A text with its line ends as they are; None, and said, when it is not UTF-8. Raises: OSError."""
    from ftdsl.session import read_bytes

    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        print(f"error: {path} is not a UTF-8 text", file=sys.stderr)
        return None


def stdin_text() -> str:
    """What stdin holds. Raises: TooLargeError, UnicodeDecodeError."""
    from ftdsl.session import LIMIT, TooLargeError

    content = sys.stdin.buffer.read(LIMIT + 1)
    if len(content) > LIMIT:
        raise TooLargeError(errno.EFBIG, f"it is larger than {LIMIT >> 20} megabytes", "stdin")
    return content.decode("utf-8").replace("\r\n", "\n")


def read_stdin() -> str | None:
    """What stdin holds; None, and said, when it is not UTF-8. Raises: TooLargeError."""
    try:
        return stdin_text()
    except UnicodeDecodeError:
        print("error: stdin is not a UTF-8 text", file=sys.stderr)
        return None


def print_json(data: object) -> None:
    """A JSON document on stdout. Whatever is in it: what JSON has no word for (`inf`, a date, bytes) becomes a text."""
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
    """The folder whose repository a file belongs to, links resolved; without one, the file's own folder."""
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
    """The difference between a recipe and what it would become."""
    import difflib

    sys.stdout.writelines(
        difflib.unified_diff(before.splitlines(True), after.splitlines(True), name, f"{name} ({what})")
    )
