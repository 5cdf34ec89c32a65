"""Files and what they declare: the recipe, its includes, and the names each of them brings."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path

from ftdsl.diagnostics import Label
from ftdsl.language import tree
from ftdsl.language.parser import parse
from ftdsl.record import mutable
from ftdsl.session import Session
from ftdsl.source import Source

MAX_INCLUDE = 2**20
"""Bytes. An include is read by people; what is larger is a mistake (a data file, a device)."""


@mutable
class Module:
    """One scope: a file with what it includes without `as`, weakest first.

    lets, params, profiles and declarations by name (the file's own win over included ones); `aliases` are the includes
    with `as`. `layers` are the files' items with the file they came from.
    """

    path: Path
    file: tree.File
    layers: list[tree.File] = field(default_factory=list)
    lets: dict[str, tree.Let] = field(default_factory=dict)
    params: dict[str, tree.Param] = field(default_factory=dict)
    profiles: dict[str, tree.Block] = field(default_factory=dict)
    aliases: dict[str, Module] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)


def load(path: Path, name: str, session: Session) -> Module | None:
    """The recipe at `path` with everything it includes; None (and a diagnostic) when it cannot be read."""
    try:
        text = session.files.text(path)
    except (OSError, UnicodeDecodeError) as error:
        session.sink.error("FT501", f"cannot read `{name}`: {_why(error)}", None)
        return None
    return _module(path, Source(name, text), session, ())


def _why(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not a UTF-8 text"
    return {FileNotFoundError: "there is no such file", IsADirectoryError: "it is a folder, not one recipe"}.get(
        type(error), (error.strerror or str(error)).lower()
    )


def _module(path: Path, source: Source, session: Session, opened: tuple[Path, ...]) -> Module:
    file = parse(source, session.sink)
    module = Module(path, file, files=[path])
    opened = (*opened, path.resolve())
    for item in file.items:
        if isinstance(item, tree.Include):
            _include(module, item, session, opened)
    module.layers.append(file)
    _declare(module, file, session)
    return module


def _include(module: Module, item: tree.Include, session: Session, opened: tuple[Path, ...]) -> None:
    source = _read(module, item, session, opened)
    if source is None:
        return
    written = item.path.plain or ""
    inner = _module(module.path.parent / written, source, session, opened)
    module.files += [path for path in inner.files if path not in module.files]
    module.profiles = {**module.profiles, **inner.profiles}
    if item.alias:
        module.aliases[item.alias.text] = inner
        return
    module.layers += inner.layers
    module.lets |= inner.lets
    module.params |= inner.params
    module.aliases |= inner.aliases


def _read(module: Module, item: tree.Include, session: Session, opened: tuple[Path, ...]) -> Source | None:
    sink, span = session.sink, item.path.span
    written = item.path.plain
    if written is None:
        sink.error("FT043", "an include is a plain path", span, help='write `include "common.ft"`')
        return None
    path = module.path.parent / written
    if path.resolve() in opened:
        sink.error("FT043", f"`{written}` includes itself", span)
        return None
    try:
        if not session.files.is_file(path):
            why = "it is not a regular file" if session.files.exists(path) else "there is no such file"
            sink.error("FT043", f"cannot include `{written}`: {why}", span, help="paths are seen from this file")
            return None
        if len(text := session.files.text(path)) > MAX_INCLUDE:
            sink.error("FT043", f"cannot include `{written}`: it is larger than 1 MiB", span)
            return None
    except (OSError, UnicodeDecodeError) as error:
        sink.error("FT043", f"cannot include `{written}`: {_why(error)}", span)
        return None
    return Source((Path(module.file.source.name).parent / written).as_posix(), text)


def _declare(module: Module, file: tree.File, session: Session) -> None:
    own: dict[str, tree.Word] = {}
    for item in file.items:
        if isinstance(item, tree.Let | tree.Param):
            _once(own, item.name, session)
        if isinstance(item, tree.Let):
            module.lets[item.name.text] = item
            module.params.pop(item.name.text, None)
        elif isinstance(item, tree.Param):
            module.params[item.name.text] = item
            module.lets.pop(item.name.text, None)
        elif isinstance(item, tree.Block) and item.kind.text == "profile":
            _profile(module, item, session)


def _once(own: dict[str, tree.Word], word: tree.Word, session: Session) -> None:
    if first := own.get(word.text):
        here = Label(first.span, "first set here")
        session.sink.error("FT006", f"`{word.text}` is set twice", word.span, labels=(here,))
    own.setdefault(word.text, word)


def _profile(module: Module, block: tree.Block, session: Session) -> None:
    if block.label is None:
        session.sink.error("FT046", "a profile needs a name", block.kind.span, help="write `profile laptop { … }`")
        return
    known = module.profiles.get(block.label.text)
    if known and known.span.source is block.span.source:
        first = Label(known.header, "first set here")
        session.sink.error("FT006", f"profile `{block.label.text}` is set twice", block.label.span, labels=(first,))
        return
    module.profiles[block.label.text] = block
