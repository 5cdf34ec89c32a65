"""Files, scripts and command lines to what is imported: in what order, under which names, with which documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from ftdsl.importers import commands, documents, recognise, shell
from ftdsl.importers.beside import root_of
from ftdsl.importers.draft import Note
from ftdsl.importers.imports import Start
from ftdsl.lint.config import Config, Document, Setting
from ftdsl.record import mutable, replace
from ftdsl.session import Session
from ftdsl.source import Source, Span


@mutable
class Found:
    """What the given files hold: invocations, documents that belong to no invocation yet, and notes."""

    starts: list[Start] = field(default_factory=list)
    deepspeed: Document | None = None
    accelerate: Document | None = None
    notes: list[Note] = field(default_factory=list)


def find(files: Sequence[tuple[Path, str]], session: Session) -> Found:
    """`files`: (path, text). What cannot be read is an error in the session's sink."""
    found = Found()
    for path, text in files:
        source = Source(path.as_posix(), text)
        if path.suffix in (".yaml", ".yml", ".json") or (path.suffix != ".sh" and not recognise.is_command(text)):
            _document(path, source, found, session)
        else:
            _script(path, source, found, session)
    if not found.starts and (found.deepspeed or found.accelerate):
        document = found.accelerate or found.deepspeed
        config = Config({}, document.span if document else None, "llamafactory", kind="chat")
        found.starts.append(Start(config, "", Path()))
    found.starts = [_joined(start, found, session) for start in found.starts]
    return found


def _document(path: Path, source: Source, found: Found, session: Session) -> None:
    file = documents.of_text(path, source, session)
    if file is None:
        return
    start = Span(source, file.node.span.start, min(file.node.span.end, file.node.span.start + 1))
    if file.kind == "llamafactory":
        root = root_of(path, documents.settings(file.node), session.files)
        found.starts.append(Start(documents.config(file, root, session), path.stem, root))
    elif file.kind == "deepspeed":
        found.deepspeed = documents.document_of(file, path.name)
    elif file.kind == "accelerate":
        found.accelerate = documents.document_of(file, path.name)
    elif file.kind == "llamafactory-v1":
        session.sink.error("FT051", recognise.V1, start)
    elif file.kind in ("dataset_info", "tokens"):
        what = "data sets" if file.kind == "dataset_info" else "special tokens"
        help = "import the file that names it"
        session.sink.error("FT051", f"this describes {what}, and starts nothing", start, help=help)
    else:
        help = "known are LLaMA-Factory YAML and JSON, DeepSpeed and accelerate files, commands and shell scripts"
        session.sink.error("FT051", "this is no configuration that is known here", start, help=help)


def _script(path: Path, source: Source, found: Found, session: Session) -> None:
    script = shell.read(source, session.sink)
    found.notes += script.notes
    seen: list[tuple[Any, ...]] = []
    count = 0
    for simple in script.commands:
        root = _root(path, simple, session)
        made = commands.config(simple, root, session, found.notes)
        if made is None:
            continue
        config, stem = made
        key = tuple((name, str(setting.value)) for name, setting in config.settings.items())
        if key in seen:  # the same on another node
            continue
        seen.append(key)
        count += 1
        found.starts.append(Start(config, stem, root))
    if not count and not session.sink.failed:
        help = "known are llamafactory-cli, torchrun, accelerate launch, deepspeed, python src/train.py"
        session.sink.error("FT051", "no command here starts LLaMA-Factory", Span(source, 0, 0), help=help)


def _root(path: Path, simple: shell.Simple, session: Session) -> Path:
    """Where the script is started: here, or the nearest folder above that has the files it names."""
    named = [word.text for word in simple.words if word.text.endswith((".yaml", ".yml", ".json", ".py"))]
    for place in (Path(), path.parent, *list(path.parent.parents)[:6]):
        if any(session.files.is_file(place / name) for name in named):
            return place
    given = {word.text.lstrip("-"): after.text for word, after in zip(simple.words, simple.words[1:], strict=False)}
    return root_of(path, {name: Setting(name, value, name) for name, value in given.items()}, session.files)


def _joined(start: Start, found: Found, session: Session) -> Start:
    """DeepSpeed and accelerate files given beside an invocation that names none are its own; accelerate's may name one."""
    config = start.config
    if config.deepspeed is None and found.deepspeed is not None:
        config = replace(config, deepspeed=found.deepspeed)
    if config.accelerate is None and found.accelerate is not None:
        config = replace(config, accelerate=found.accelerate)
    if config.deepspeed is None and config.accelerate is not None:
        config = replace(config, deepspeed=documents.deepspeed_of(config.accelerate, start.root, session))
    return start if config is start.config else replace(start, config=config)
