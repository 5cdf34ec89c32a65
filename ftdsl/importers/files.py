"""Files, scripts and command lines to what is imported: in what order, under which names, with which documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from ftdsl.catalog import foreign
from ftdsl.diagnostics import Sink
from ftdsl.diagnostics.suggest import closest
from ftdsl.engines.trl.abilities import TITLE
from ftdsl.importers import commands, dialects, documents, llamafactory, programs, recognise, shell, tools
from ftdsl.importers.bash_syntax import BLANKS
from ftdsl.importers.bash_words import Word
from ftdsl.importers.beside import root_of
from ftdsl.importers.draft import Note
from ftdsl.importers.imports import Start
from ftdsl.importers.trl import launch
from ftdsl.importers.trl.trainers import CLI, trainer_of_file
from ftdsl.lint.config import Config, Document, Setting
from ftdsl.printable import shortened
from ftdsl.record import mutable, replace
from ftdsl.session import Session
from ftdsl.source import Source, Span


@mutable
class Inputs:
    """What the given files hold: invocations, documents that belong to no invocation yet, and notes."""

    starts: list[Start] = field(default_factory=list)
    deepspeed: Document | None = None
    accelerate: Document | None = None
    notes: list[Note] = field(default_factory=list)


def find(files: Sequence[tuple[Path, str]], session: Session) -> Inputs:
    """`files`: (path, text). What cannot be read is an error in the session's sink."""
    inputs = Inputs()
    for path, text in files:
        source = Source(path.as_posix(), text)
        kind = recognise.text(source.name, text)
        if kind == "command":
            _script(path, source, inputs, session)
        elif kind == "unknown":
            _document(path, source, inputs, session)
        else:
            refuse(kind, source, session)
    if not inputs.starts and (inputs.deepspeed or inputs.accelerate):
        document = inputs.accelerate or inputs.deepspeed
        config = Config({}, document.span if document else None, recognise.ENGINE, kind="chat")
        inputs.starts.append(Start(config, "", Path()))
    inputs.starts = [_joined(start, inputs, session) for start in inputs.starts]
    for start in inputs.starts:
        dialect = dialects.of(start.config.engine)
        if name := dialect.no_stage(start.config):
            at = start.config.at("stage")
            unknown = recognise.is_open(name)
            what = f"`{at.text}` is known only when the script runs" if unknown else f"`{at.word}` has no `{name}`"
            if start.config.trainer:
                what = f"a recipe has no stage for {dialect.title}'s `{name}`"
                session.sink.error("FT002", what, at.span, help=f"it takes {dialect.stages}")
                continue
            instead = foreign.instead_of("stage", name)
            guess = foreign.value_of("stage", name) or closest(name, list(llamafactory.STAGES))
            label = f"did you mean `{guess}`?" if guess and not unknown and not instead else ""
            session.sink.error("FT002", what, at.span, label=label, help=instead or f"it takes {dialect.stages}")
    return inputs


def _document(path: Path, source: Source, inputs: Inputs, session: Session) -> None:
    file = documents.of_text(path, source, session)
    if file is None:
        return
    start = Span(source, file.node.span.start, min(file.node.span.end, file.node.span.start + 1))
    if file.kind in (recognise.ENGINE, recognise.TRL):
        root = root_of(path, documents.settings(file.node), session.files)
        config = config_of(file, root, session)
        inputs.starts.append(Start(config, path.stem, root))
        if config.trainer:
            inputs.notes.append(_trainer(config, file, path, start))
    elif file.kind == "deepspeed":
        inputs.deepspeed = documents.document_of(file, path.name)
    elif file.kind == "accelerate":
        inputs.accelerate = documents.document_of(file, path.name)
    elif file.kind == "other":
        sentence = tools.sentence("configuration", file.tool)
        session.sink.error("FT051", sentence, start, help="`ftc init` writes a recipe to begin with")
    elif file.kind in recognise.SENTENCES:
        refuse(file.kind, source, session, start)
    elif file.kind in ("dataset_info", "tokens"):
        what = "data sets" if file.kind == "dataset_info" else "special tokens"
        help = "import the file that names it"
        session.sink.error("FT051", f"this describes {what}, and starts nothing", start, help=help)
    elif not session.sink.failed:
        help = "known are YAML and JSON of LLaMA-Factory and TRL, DeepSpeed and accelerate files, commands and shell scripts"
        session.sink.error("FT051", "this is no configuration that is known here", start, help=help)


def config_of(file: documents.Read, root: Path, session: Session) -> Config:
    """A file of an engine's parameters as one invocation."""
    read = launch.config_of if file.kind == recognise.TRL else documents.config
    return read(file, root, session)


def _trainer(config: Config, file: documents.Read, path: Path, at: Span) -> Note:
    """A file of parameters alone does not say what trains with them; its command does."""
    why = trainer_of_file(documents.plain(documents.settings(file.node)), str(path))[1]
    title, verb = dialects.of(config.engine).title, config.trainer
    text = f"taken as {title}'s `{verb}`{f': {why}' if why else ''}; `{CLI} {verb} --config {path.name}` says it"
    return Note(path.name, text, at, carried=True)


def refuse(kind: str, source: Source, session: Session, span: Span | None = None) -> None:
    """One sentence on a file that no engine reads, and what to do with it."""
    what = recognise.SENTENCES.get(kind, "this is already a recipe")
    help = recognise.HELPS.get(kind, "")
    if kind in ("python", "notebook") and (title := tools.of_python(source.text)):
        what = what.replace("; ", f" that trains with {title}; ")
        if title == TITLE:
            help = f"write its parameters into a YAML (`{CLI} sft --config FILE`), or a recipe (`engine = {recognise.TRL}`)"
    session.sink.error("FT051", what, span or Span(source, 0, min(1, len(source.text))), help=help)


def _script(path: Path, source: Source, inputs: Inputs, session: Session) -> None:
    script = shell.read(source, session.sink, listing(path, session))
    inputs.notes += script.notes
    report = commands.Report(inputs.notes)
    session.files = session.files.also(written_by(script, path, session))
    seen: list[tuple[Any, ...]] = []
    count = 0
    for simple in script.commands:
        root = started_in(path, simple, session)
        made = commands.config(simple, script, root, session, report)
        if made is None:
            continue
        config, stem = made
        key = tuple((name, str(setting.value)) for name, setting in config.settings.items())
        if key in seen:  # the same on another node
            continue
        seen.append(key)
        count += 1
        inputs.starts.append(Start(replace(config, unknown=frozenset()), stem, root, simple.loops))
    if not count and not session.sink.failed:
        for problem in report.problems:
            session.sink.add(problem)
        if not session.sink.failed:
            nothing_started(source, script, report, session.sink)


def nothing_started(source: Source, script: shell.Script, report: commands.Report, sink: Sink) -> None:
    """An error for a script of which no command is read: none starts LLaMA-Factory, or only its own variables name the file."""
    if (odd := BLANKS.search(source.text.removeprefix("\ufeff"))) is not None:
        at = odd.start() + source.text.startswith("\ufeff")
        text = f"U+{ord(odd[0]):04X} looks like a blank, and is a letter to a shell"
        sink.error("FT032", text, Span(source, at, at + 1), help="write a blank")
        return
    unknown = next((problem.span for problem in report.problems if problem.code == "FT052"), None)
    if unknown is not None:
        text = "only the running script knows what it trains with: nothing was read"
        sink.error("FT051", text, unknown, help="pass the file itself to `ftc`")
    elif other := next((word for simple in script.commands if (word := programs.other_script(simple))), None):
        _other_script(other, sink)
    elif report.idle:
        name, span = report.idle[0]
        sink.error("FT051", f"`{name}` trains nothing, and no other command here does", span, help=LAUNCHERS)
    elif program := next((word for simple in script.commands if (word := programs.own_program(simple))), None):
        text = f"`{shortened(program.text, 80)}` is a program of its own, not LLaMA-Factory's or TRL's"
        sink.error("FT051", text, program.span, help=OWN_PROGRAM)
    elif other := next(
        (word for simple in script.commands if (word := programs.other_script(simple, sourced=True))), None
    ):  # most prepare something only
        _other_script(other, sink)
    else:
        sink.error("FT051", NOTHING, Span(source, 0, 0), help=LAUNCHERS)


def _other_script(other: Word, sink: Sink) -> None:
    text = f"no command here starts LLaMA-Factory; `{shortened(other.text, 80)}`, which it starts, may"
    sink.error("FT051", text, other.span, help=f"give that script: `ftc check {shortened(other.text, 80)}`")


def listing(path: Path, session: Session) -> Callable[[str], Sequence[str]]:
    """The configurations that a pattern in a script names, seen from where the script may be started."""

    def listed(pattern: str) -> Sequence[str]:
        if (
            not pattern.endswith((".yaml", ".yml", ".json"))
            or pattern.startswith("/")
            or ".." in pattern
            or "**" in pattern
        ):
            return ()
        for folder in (Path(), path.parent, *list(path.parent.parents)[:6]):
            if matches := session.files.glob(folder, pattern):
                return [match.relative_to(folder).as_posix() for match in matches[: shell.MAX_ROUNDS]]
        return ()

    return listed


OWN_PROGRAM = (
    "ftc reads parameters, not programs: write them into a YAML of LLaMA-Factory or TRL, or a recipe (`ftc init`)"
)
NOTHING = "no command here starts LLaMA-Factory or TRL"
LAUNCHERS = "known are llamafactory-cli, trl, torchrun, accelerate launch, deepspeed, python src/train.py"


def written_by(script: shell.Script, path: Path, session: Session) -> dict[Path, str]:
    """The files a script writes, where it would put them, as far as it is started here."""
    return {Path(name): text for name, text in script.files.items() if name and "\0" not in name}


def started_in(path: Path, simple: shell.Simple, session: Session) -> Path:
    """Where the script is started: here, or the nearest folder above that has the files it names."""
    named = [word.text if word.known else commands.behind_variable(word)
             for word in simple.words if word.text.endswith((".yaml", ".yml", ".json", ".py"))]  # fmt: skip
    for folder in (Path(), path.parent, *list(path.parent.parents)[:6]):
        if any(session.files.is_file(folder / name) for name in named if name):
            return folder
    given = {word.text.lstrip("-"): after.text for word, after in zip(simple.words, simple.words[1:], strict=False)}
    return root_of(path, {name: Setting(name, value, name) for name, value in given.items()}, session.files)


def _joined(start: Start, inputs: Inputs, session: Session) -> Start:
    """DeepSpeed and accelerate files given beside an invocation that names none are its own; accelerate's may name one."""
    config = start.config
    if config.deepspeed is None and inputs.deepspeed is not None:
        config = replace(config, deepspeed=inputs.deepspeed)
    if config.accelerate is None and inputs.accelerate is not None:
        config = replace(config, accelerate=inputs.accelerate)
    if config.deepspeed is None and config.accelerate is not None:
        config = replace(config, deepspeed=documents.deepspeed_of(config.accelerate, start.root, session))
    return start if config is start.config else replace(start, config=config)
