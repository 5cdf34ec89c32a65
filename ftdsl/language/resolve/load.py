"""Loads the recipe and its includes, and collects the names that each file declares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path

from ftdsl.diagnostics import Label, Sink
from ftdsl.language import tree
from ftdsl.language.endings import ENDING, IMPORTED, kind_of_other
from ftdsl.language.parser import parse
from ftdsl.printable import typed
from ftdsl.record import mutable
from ftdsl.session import Session
from ftdsl.source import Source

MAX_RECIPE = 2**23
"""Maximum size of the recipe in bytes: about 200,000 lines."""

MAX_INCLUDE = 2**20
"""Maximum size of an include in bytes; a larger file is a mistake, such as a data file."""

MAX_LEVELS = 32
"""Maximum nesting of includes."""


@mutable
class Module:
    """A file with its includes without `as`.

    lets, params, profiles: by name; the file's own win over included ones. aliases: the includes with `as`.
    layers: the syntax trees of the file and its includes, weakest first, each once. files: the paths of all files.
    """

    path: Path
    file: tree.File
    layers: list[tree.File] = field(default_factory=list)
    lets: dict[str, tree.Let] = field(default_factory=dict)
    params: dict[str, tree.Param] = field(default_factory=dict)
    profiles: dict[str, tree.Block] = field(default_factory=dict)
    aliases: dict[str, Module] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)

    def profile(self, name: str) -> tree.Block | None:
        """The profile of that name; `site.laptop` is a profile of the include with alias `site`."""
        alias, dot, inner = name.partition(".")
        if dot and alias in self.aliases:
            return self.aliases[alias].profile(inner)
        return self.profiles.get(name)

    def everywhere(self) -> Iterator[Module]:
        """This module and all included with an alias, each once."""
        seen: dict[int, Module] = {}
        todo = [self]
        while todo:
            module = todo.pop(0)
            if id(module) not in seen:
                seen[id(module)] = module
                todo += module.aliases.values()
        yield from seen.values()


def load(path: Path, name: str, session: Session) -> Module | None:
    """The recipe at `path` with its includes; None and a diagnostic if it cannot be read."""
    if (kind := kind_of_other(path)) and session.files.is_file(path):
        report_other(name, kind, session)
        return None
    try:
        if (real := _foreign(path)) is not None:
            session.sink.error("FT501", f"cannot read `{name}`: it is a link to `{real}`, which is not a recipe", None)
            return None
        text = session.files.text(path, MAX_RECIPE)
    except (OSError, UnicodeDecodeError) as error:
        session.sink.error("FT501", f"cannot read `{name}`: {_why(error)}", None, help=_near(path, session))
        return None
    return _Loader(session).module(path, Source(name, text), ())


def report_other(name: str, kind: str, session: Session) -> None:
    """Report a file that is given as a recipe and is something else, with the verbs that read it."""
    shown = typed(name)
    help = f"`ftc check {shown}` says what can be done with it"
    if kind in IMPORTED:
        help = f"`ftc import {shown}` makes a recipe of it, `ftc check {shown}` checks it as it is"
    if kind == "a file of rows":
        help = "a recipe names it: `data = file(…)`"
    session.sink.error("FT051", f"`{name}` is {kind}, and no recipe (they end in `{ENDING}`)", None, help=help)


def _near(path: Path, session: Session) -> str:
    """A hint: the recipe whose name is nearest, where one is not there."""
    from ftdsl.diagnostics.suggest import closest

    if session.files.exists(path):
        return ""
    beside = sorted(other.name for other in session.files.glob(path.parent, f"*{ENDING}"))
    if guess := closest(path.name, beside):
        return f"did you mean `{path.with_name(guess)}`?"
    return f"recipes here: {', '.join(beside[:5])}" if beside else ""


def _foreign(path: Path) -> str | None:
    """The target of a link with the extension of a recipe, if the target does not have it: its content must not be shown."""
    real = os.path.realpath(path)
    return real if path.suffix == ENDING and path.is_symlink() and not real.endswith(ENDING) else None


def _why(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not a UTF-8 text"
    return {FileNotFoundError: "there is no such file", IsADirectoryError: "it is a folder"}.get(
        type(error), (error.strerror or str(error)).lower()
    )


class _Loader:
    """Loads each file once, however often it is included."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.done: dict[Path, Module] = {}

    def module(self, path: Path, source: Source, opened: tuple[Path, ...]) -> Module:
        """The module of a file; `opened`: the files that include it, outermost first."""
        identity = _identity(path)
        if identity in self.done:
            return self.done[identity]
        file = parse(source, self.session.sink)
        module = self.done[identity] = Module(path, file, files=[path])
        for item in file.items:
            if isinstance(item, tree.Include):
                self._include(module, item, (*opened, identity))
        module.layers.append(file)
        for layer in module.layers:
            _declare(module, layer, self.session.sink)
        return module

    def _include(self, module: Module, item: tree.Include, opened: tuple[Path, ...]) -> None:
        written = item.path.plain
        if written is None:
            help = 'write `include "common.ft"`'
            self.session.sink.error("FT043", "an include needs a plain path", item.path.span, help=help)
            return
        path = module.path.parent / written
        is_loaded = _identity(path) in self.done and _identity(path) not in opened
        source = None if is_loaded else self._read(module, item, path, opened)
        if source is None and not is_loaded:
            return
        inner = self.done[_identity(path)] if source is None else self.module(path, source, opened)
        module.files += [path for path in inner.files if path not in module.files]
        if item.alias:
            module.aliases[item.alias.text] = inner
            module.profiles = {**module.profiles, **inner.profiles}
            return
        present = {id(layer) for layer in module.layers}
        module.layers += [layer for layer in inner.layers if id(layer) not in present]
        module.profiles |= inner.profiles
        module.aliases |= inner.aliases

    def _read(self, module: Module, item: tree.Include, path: Path, opened: tuple[Path, ...]) -> Source | None:
        """The source of an include; None and a diagnostic if it cannot be read."""
        span, written = item.path.span, item.path.plain
        why, help = "", "paths are relative to this file"
        files = self.session.files
        if _identity(path) in opened:
            self.session.sink.error("FT043", f"`{written}` includes itself", span)
            return None
        if len(opened) > MAX_LEVELS:
            why, help = f"includes are nested more than {MAX_LEVELS} levels", "include it from the recipe itself"
        elif not files.is_file(path):
            why = "it is not a regular file" if files.exists(path) else "there is no such file"
        elif not os.path.realpath(path).endswith(ENDING):
            why, help = "it is not a recipe", f"included files end in `{ENDING}`"
        else:
            try:
                text = files.text(path, MAX_INCLUDE)
                return Source((Path(module.file.source.name).parent / str(written)).as_posix(), text)
            except (OSError, UnicodeDecodeError) as error:
                why = _why(error)
        self.session.sink.error("FT043", f"cannot include `{written}`: {why}", span, help=help)
        return None


def _identity(path: Path) -> Path:
    """The same for all spellings of a path. Links in two folders to one file differ: includes are relative to the folder."""
    return Path(os.path.realpath(path.parent)) / path.name


def _declare(module: Module, file: tree.File, sink: Sink) -> None:
    declared: dict[str, tree.Word] = {}
    for item in file.items:
        if isinstance(item, tree.Let | tree.Param):
            _once(declared, item.name, sink)
        if isinstance(item, tree.Let):
            module.lets[item.name.text] = item
            module.params.pop(item.name.text, None)
        elif isinstance(item, tree.Param):
            module.params[item.name.text] = item
            module.lets.pop(item.name.text, None)
        elif isinstance(item, tree.Block) and item.kind.text == "profile":
            _profile(module, item, sink)


def _once(declared: dict[str, tree.Word], word: tree.Word, sink: Sink) -> None:
    if first := declared.get(word.text):
        label = Label(first.span, "first set here")
        sink.error("FT006", f"`{word.text}` is set twice", word.span, labels=(label,))
    declared.setdefault(word.text, word)


def _profile(module: Module, block: tree.Block, sink: Sink) -> None:
    if block.label is None:
        sink.error("FT046", "a profile needs a name", block.kind.span, help="write `profile laptop { … }`")
        return
    earlier = module.profiles.get(block.label.text)
    if earlier is block:
        return
    if earlier and earlier.span.source is block.span.source:
        first = Label(earlier.header, "first set here")
        sink.error("FT006", f"profile `{block.label.text}` is set twice", block.label.span, labels=(first,))
        return
    module.profiles[block.label.text] = block
