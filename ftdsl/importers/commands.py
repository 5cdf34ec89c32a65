"""Commands that start an engine, as `Config`s: the launcher's arguments, then the engine's.

`llamafactory-cli train …`, `torchrun … src/train.py …`, `accelerate launch … src/train.py …`, `deepspeed … src/train.py …`,
`python src/train.py …`, behind whatever starts them, each with a file, with `key=value` after it, or with flags; `trl sft …` and
TRL's scripts, with flags and a file behind `--config`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from ftdsl import catalog
from ftdsl.catalog import foreign
from ftdsl.catalog.trainers import trainer_schema
from ftdsl.diagnostics import Diagnostic, Severity
from ftdsl.importers import documents, launchers, recognise, tools
from ftdsl.importers.bash_control import gpus_of
from ftdsl.importers.bash_words import CLOSE, OPEN, Word
from ftdsl.importers.draft import Note
from ftdsl.importers.launchers import Started
from ftdsl.importers.shell import Script, Simple
from ftdsl.importers.trl import launch as trl_launch
from ftdsl.importers.trl.trainers import helps
from ftdsl.language.yaml_tree import scalar
from ftdsl.lint.config import Config, Document, Form, Kind, Setting
from ftdsl.printable import shortened
from ftdsl.record import mutable, replace
from ftdsl.session import Session, is_absent, reason
from ftdsl.source import Span

_SILENT = frozenset(
    "cd set echo mkdir source . conda module ulimit sleep wait date pwd exit true false : shift trap printf cat tee export which "
    "hash nvidia-smi rm ls read local test [ [[ ]] pip pip3 shopt mv cp touch chmod unset kill pkill hostname type command pushd "
    "popd return break continue trap function ldconfig free df du top head tail grep sed awk cut sort uniq wc env getopts tmux "
    "screen ray git wget curl apt apt-get yum brew npm sudo huggingface-cli hf modelscope wandb exec eval @echo".split()
)
"""Commands that prepare or show something: nobody misses them in a recipe."""


@mutable
class Report:
    """Results about commands: notes of an import; problems, which `ftc check` reports, and an import if it has
    nothing to import; idle: commands of LLaMA-Factory that train nothing (`webui`, `version`); cut: the last command was cut
    short, which was reported."""

    notes: list[Note] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    idle: list[tuple[str, Span]] = field(default_factory=list)
    cut: bool = False

    def add(self, code: str, severity: Severity, message: str, span: Span, help: str = "") -> None:
        self.problems.append(Diagnostic(code, message, span, severity, help=help))


Schema: TypeAlias = Mapping[str, Any]
"""The parameters of an engine, or of one of its trainers."""

_OPEN_FLAGS = "is set outside of this script: its flags are not known"


def config(simple: Simple, script: Script, root: Path, session: Session, report: Report) -> tuple[Config, str] | None:
    """The invocation a command is, with the stem of the file it names; None (and a note in the report) when it starts no
    engine, or a file of it cannot be read."""
    started = launchers.started(simple)
    report.notes += started.notes
    if started.launcher == "other":
        if (
            simple.cut is not None and launchers.start_of([word.text for word in simple.words]) == 0
        ):  # what it starts is cut off
            report.cut = True
            _cut(simple.cut, report)
        _other(simple, started, report)
        return None
    report.cut = simple.cut is not None
    if simple.cut is not None:
        _cut(simple.cut, report)
    words = list(started.words)
    own_notes: list[Note] = []
    span = simple.words[0].span.to(simple.words[-1].span)
    kind = started.action
    if not words and kind in ("train", "export"):
        text = "this command names neither a file nor flags"
        report.add("FT051", Severity.ERROR, text, span)
        report.notes.append(Note(simple.words[0].text, "names neither a file nor flags", span))
        return None
    stem = ""
    schema = _schema(started)
    if started.trainer:
        trainer_settings = _trainer_settings(started, words, root, session, report, own_notes)
        if trainer_settings is None:
            return None
        settings, stem = trainer_settings
    elif words and (words[0].text.endswith((".yaml", ".yml", ".json")) or _is_open_file(words)):
        file = _file(words[0], root, session, report)
        stem = PurePosixPath(words[0].text).stem
        if file is None or not _fits(file, words[0], report, started.engine):
            return None
        settings = documents.settings(file.node) | dict(_overrides(words[1:]))
        span = file.node.span
        kind = _kind(kind, settings, words[0], simple, report)
    else:
        settings = dict(_flags(words, own_notes, report, schema, started.engine))
    report.notes += own_notes
    open_flags = [note for note in own_notes if note.text == _OPEN_FLAGS]
    for note in open_flags:
        if note.span is not None:
            report.add("FT052", Severity.INFO, f"`{note.word}`: {_OPEN_FLAGS}, and not checked", note.span)
    report.notes += launchers.not_carried(started)
    if (word := launchers.uncounted(started)) is not None:
        text = f"`{shortened(word.text, 40)}` is no number of processes"
        report.add("FT060", Severity.ERROR, text, word.span)
        report.notes.append(Note(word.text, "is no number of processes", word.span))
    form: Form = "yaml" if stem and not started.trainer else "command"
    accelerate = _accelerate(started, settings, schema, root, session, report)
    started.env = {name: word for name, word in started.env.items() if launchers.is_for_the_run(name, script.used)}
    launch = launchers.launch(started, gpus_of(script.headers))
    made = documents.made(
        settings, form, stem or "command", span, root, session, kind=kind, launch=launch, accelerate=accelerate,
        engine=started.engine, trainer=started.trainer,
    )  # fmt: skip
    unknown = frozenset(
        name
        for name, setting in settings.items()
        if isinstance(setting.value, str) and recognise.is_open(setting.value)
    )
    if unknown:
        _report_unknown([settings[name] for name in unknown], report)
    if simple.cut is not None and not stem:  # what seems to be missing may be in the part that is cut off
        unknown |= schema.keys() - settings.keys()
    if open_flags:  # they may hold any parameter
        unknown |= schema.keys() - settings.keys()
    return replace(made, unknown=made.unknown | unknown), stem


def _schema(started: Started) -> Schema:
    if started.trainer:
        return trainer_schema(started.engine, started.trainer)
    return catalog.engine_schema(started.engine)


CONFIG = "--config"
"""The flag before the name of a trainer's file (trl/scripts/utils.py, TrlParser)."""


def _trainer_settings(
    started: Started, words: list[Word], root: Path, session: Session, report: Report, notes: list[Note]
) -> tuple[dict[str, Setting], str] | None:
    """The settings of the file behind `--config`, and of the flags, which win; with the stem of the file. None if the file cannot
    be read."""
    settings: dict[str, Setting] = {}
    stem = ""
    for at, word in enumerate(words[:-1]):
        if word.text != CONFIG:
            continue
        name = words[at + 1]
        file = _file(name, root, session, report)
        if file is None or not _fits(file, name, report, started.engine):
            return None
        settings, stem = documents.settings(file.node), PurePosixPath(name.text).stem
        words = words[:at] + words[at + 2 :]
        break
    return settings | dict(_flags(words, notes, report, _schema(started), started.engine)), stem


def _other(simple: Simple, started: Started, report: Report) -> None:
    """A command that starts no engine: another tool's, one that LLaMA-Factory removed, the rest of one cut short."""
    name, text = simple.words[0], simple.words[0].text
    span = name.span.to(simple.words[-1].span)
    if started.tool:
        sentence = tools.sentence("command", started.tool)
        severity = Severity.INFO if helps([word.text for word in simple.words]) else Severity.ERROR
        report.add("FT051", severity, sentence, name.span, help="`ftc init` writes a recipe to begin with")
        report.notes.append(Note(text, sentence, name.span))
    elif started.gone:
        sentence = f"`{started.idle}` was taken out of LLaMA-Factory"
        report.add("FT051", Severity.ERROR, sentence, span, help="an `eval` stage scores a model on rows of your own")
        report.notes.append(Note(started.idle, "was taken out of LLaMA-Factory", span))
    elif started.idle:
        if "webui" in started.idle:
            report.notes.append(Note(started.idle, "opens a web page, which is not a stage: start it by hand", span))
        report.idle.append((started.idle, span))
    elif re.match(r"--?[A-Za-z]", text):
        if not report.cut:
            why = f"`{text}` is not part of the command above, which ends without a backslash"
            report.add("FT053", Severity.ERROR, why, name.span, help="end the line above with a backslash")
        report.notes.append(Note(text, "is not part of a command: the one above it ends before this line", name.span))
    elif PurePosixPath(text).name not in _SILENT and not name.text.startswith("$"):
        report.notes.append(Note(text, "starts no engine; a `shell` stage can run it", name.span))
    elif text == "cd":
        report.notes.append(Note("cd", "is not followed: paths are seen from where `ftc import` is called", name.span))


def _cut(at: Span, report: Report) -> None:
    """`at`: from what ends the command to the first line that is cut off."""
    first = at.source.text[at.start : at.end].split("\n")[0]
    line = at.source.position(at.end)[0]
    span = Span(at.source, at.start, at.start + len(first.rstrip()))
    if first.startswith("#"):
        why, help = f"this comment ends the command: line {line} is not part of it", "put the comment above the command"
    else:
        why, help = f"the blank after `\\` ends the command: line {line} is not part of it", "remove the blank"
    report.add("FT053", Severity.ERROR, why, span, help=help)
    report.notes.append(Note(first.strip()[:40], why, span))


def _report_unknown(settings: Sequence[Setting], report: Report) -> None:
    """One line for a command: the parameters whose values are known only when it runs."""
    settings = sorted(settings, key=lambda setting: setting.span.start if setting.span else 0)
    names = ", ".join(f"`{setting.word}`" for setting in settings)
    span = settings[0].span
    if span is not None:
        text = f"{names}: known only when the script runs; not checked"
        report.add("FT052", Severity.INFO, text, span)


def _kind(kind: Kind, settings: Mapping[str, Setting], word: Word, simple: Simple, report: Report) -> Kind:
    """The kind of a file, with an error if it contradicts the verb before it: the engine would do something else."""
    own = documents.kind_of(dict(settings))
    if kind == own or (kind == "chat" and own != "export") or (kind, own) == ("train", "chat"):
        return kind
    verbs = {"train": "train", "export": "export", "chat": "chat"}
    whose = {"train": "a training", "export": "an export", "chat": "a chat"}[own]
    text = (
        f"`{word.text}` is {whose}, and `{verbs[kind]}` reads it otherwise: `llamafactory-cli {verbs[own]} {word.text}`"
    )
    report.add("FT051", Severity.ERROR, text, word.span)
    report.notes.append(Note(word.text, f"{text}; taken so", word.span, carried=True))
    return own


def _fits(file: documents.Read, word: Word, report: Report, engine: str) -> bool:
    """Whether a file of a command is for its engine; a trainer's file may hold any few parameters."""
    if file.kind in (engine, "unknown") or (engine == recognise.TRL and file.kind == recognise.ENGINE):
        return True
    text = f"`{word.text}` is {recognise.described(file.kind, file.tool)}"
    report.add("FT051", Severity.ERROR, text, word.span)
    report.notes.append(Note(word.text, f"is {recognise.described(file.kind, file.tool)}", word.span))
    return False


def _accelerate(
    started: Started,
    settings: dict[str, Setting],
    schema: Mapping[str, Any],
    root: Path,
    session: Session,
    report: Report,
) -> Document | None:
    file = started.flags.get("config_file")
    absent = file is not None and file.known and not session.files.is_file(root / file.text)
    if file is not None and absent and (here := _same_below(file.text, root, session)):
        text = f"not on this machine: read as `{here}`"
        report.notes.append(Note(f"--config_file {shortened(file.text, 80)}", text, file.span, carried=True))
        started.flags["config_file"] = replace(file, text=here)
    try:
        document: Document | Word | None = (
            trl_launch.beside(started, settings, schema, root, session) if started.verb else None
        )
        document = document or launchers.accelerate(started, root, session)
    except (OSError, UnicodeDecodeError) as error:
        named = started.flags["config_file"]
        _unread(f"--config_file {named.text}", named, error, session, report)
        report.notes[-1:] = [
            replace(note, text=f"{note.text}: write `parallel {{ }}` as it has it") for note in report.notes[-1:]
        ]
        return launchers.of_flags(started)
    if isinstance(document, Word):
        report.notes.append(Note(f"--config_file {document.text}", "is set outside of this script", document.span))
        return launchers.of_flags(started)
    return document


# --- the engine's part


def _is_open_file(words: Sequence[Word]) -> bool:
    """Whether all that follows the verb is one variable (`train $CONFIG`), or `key=value` behind it: it names the file."""
    word = words[0]
    several = re.search(r"\$\{?[@*]|\[[@*]\]", word.text) is not None
    flags = any(other.text.startswith("-") or "=" not in other.text for other in words[1:])
    quoted = word.span.source.text[word.span.start : word.span.start + 1] == '"'  # flags would be one word
    return not word.known and word.text.startswith("$") and not several and (quoted or not flags)


def _file(word: Word, root: Path, session: Session, report: Report) -> documents.Read | None:
    if not word.known and (below := behind_variable(word)) and session.files.is_file(root / below):
        report.notes.append(Note(word.text, f"the folder is known only when the script runs: read as `{below}`",
                                 word.span, carried=True))  # fmt: skip
        return documents.read(root / below, below, session)
    if not word.known:
        text = f"the file `{shortened(' '.join(word.text.split()), 60)}` is known only when the script runs"
        report.add("FT052", Severity.INFO, text, word.span, help="pass the file itself to `ftc`")
        report.notes.append(Note(word.text, text, word.span))
        return None
    try:
        return documents.read(root / word.text, word.text, session)
    except (OSError, UnicodeDecodeError) as error:
        if is_absent(error) and (here := _same_below(word.text, root, session)):
            text = f"`{shortened(word.text, 80)}` is not on this machine: `{here}` is read for it"
            report.add("FT501", Severity.WARNING, text, word.span)
            report.notes.append(
                Note(shortened(word.text, 80), f"not on this machine: read as `{here}`", word.span, carried=True)
            )
            return documents.read(root / here, here, session)
        _unread(word.text, word, error, session, report)
        return None


def behind_variable(word: Word) -> str:
    """What follows the one variable that a path begins with (`$ROOT/conf/t.yaml`: `conf/t.yaml`), "" without."""
    match = re.fullmatch(f"{OPEN}\\w+{CLOSE}/([^{OPEN}]+/[^{OPEN}]+)", word.marked)
    return match[1] if match else ""


def _same_below(path: str, root: Path, session: Session) -> str:
    """The file below the folder that a path of another machine means, whose checkout lies elsewhere: `/home/a/repo/conf/t.yaml`
    is `conf/t.yaml` here. At least one folder has to agree; "" for none."""
    parts = PurePosixPath(path).parts
    if not path.startswith("/"):
        return ""
    ends = ("/".join(parts[at:]) for at in range(1, len(parts) - 1))
    return next((end for end in ends if session.files.is_file(root / end)), "")


def _unread(name: str, word: Word, error: OSError | UnicodeDecodeError, session: Session, report: Report) -> None:
    """A file that is not here may be elsewhere; one that is here and no text is an error."""
    if is_absent(error):
        help = _elsewhere(word, session)
        report.add("FT501", Severity.ERROR, f"there is no file `{word.text}`", word.span, help=help)
        report.notes.append(Note(name, "does not exist", word.span))
    else:
        session.sink.error("FT050", f"`{word.text}` cannot be read: {reason(error)}", word.span)


def _elsewhere(word: Word, session: Session) -> str:
    """What to give instead of a file that is not here: the one of that name beside the script, if there is one."""
    beside = PurePosixPath(word.span.source.name).parent / PurePosixPath(word.text).name
    if session.files.is_file(Path(beside)):
        return f"`{beside}` has that name: give it itself"
    where = "a path of another machine" if word.text.startswith("/") else "seen from where `ftc` is called"
    return f"{where}: give `ftc` the file itself, or call it where the file is"


def _overrides(words: Sequence[Word]) -> Iterator[tuple[str, Setting]]:
    """`learning_rate=1e-5` after a file (OmegaConf.from_cli)."""
    for word in words:
        name, equals, text = word.text.partition("=")
        name = name.lstrip("-")
        if equals:
            value = scalar(text) if word.known else word.marked.partition("=")[2]
            yield name, Setting(name, value, name, word.span, word.span)


def _flags(
    words: Sequence[Word], notes: list[Note], report: Report, schema: Schema, engine: str
) -> Iterator[tuple[str, Setting]]:
    """`--name value`, `--name=value`, `--name` alone for true; several values make a list (HfArgumentParser)."""
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if not word.text.startswith("--") and not (word.text.startswith("-") and _is_flag(word.text, schema)):
            if word.known or not word.text.startswith("$"):
                notes.append(Note(word.text, "is no flag, and no flag stands before it", word.span))
                _stray(word, report)
            else:
                notes.append(Note(word.text, _OPEN_FLAGS, word.span))
            continue
        written, equals, text = word.text.lstrip("-").partition("=")
        values = [Word(text, word.span, word.known, word.marked.partition("=")[2])] if equals else []
        while not equals and at < len(words) and not words[at].text.startswith("--"):
            if _may_be_flags(words[at], written, bool(values), schema):
                break
            values.append(words[at])
            at += 1
        if not values and not equals and _needs_value(written, schema, engine):
            text = f"`--{written}` takes a value, and none follows"
            report.add("FT060", Severity.ERROR, text, word.span)
            if not foreign.value_of(written.replace("-", "_"), "True"):  # once a switch
                notes.append(Note(word.text, "takes a value, and none follows", word.span))
                continue
        name, value = _named(written, values, schema, engine)
        span = values[0].span.to(values[-1].span) if values else word.span
        yield name, Setting(name, value, f"--{written}", span, word.span)


_DASHES = re.compile(r"[\u2010-\u2015\u2212]+")
"""Hyphens and dashes that text programs put for `-` and `--`."""


def _stray(word: Word, report: Report) -> None:
    """A word that belongs to no flag: the engine's parser refuses it."""
    shown = shortened(word.text, 60)
    if _DASHES.match(word.text):
        help = f"write `--{_DASHES.sub('-', word.text).lstrip('-')}`: these dashes are of a text program"
        report.add("FT001", Severity.ERROR, f"`{shown}` is no flag", word.span, help=help)
    elif not report.problems or report.problems[-1].help.find("dashes") < 0:  # what follows such a flag is its value
        report.add("FT001", Severity.ERROR, f"`{shown}` belongs to no flag", word.span)


def _needs_value(flag: str, schema: Schema, engine: str) -> bool:
    """Whether the parser refuses the flag alone: only switches may stand so."""
    name = _unabbreviated(flag.replace("-", "_"), schema, engine)
    kind = str(schema.get(name, {}).get("type", ""))
    return bool(kind) and "bool" not in kind and not name.startswith("no_")


def _may_be_flags(word: Word, flag: str, has_value: bool, schema: Schema) -> bool:
    """Whether a word that only a running shell knows holds further flags (`"$@"`, `$EXTRA`) and is not the flag's value."""
    if word.known or not re.fullmatch(f"{OPEN}\\w+{CLOSE}", word.marked):
        return False
    several = re.search(r"\$\{?[@*]|\[[@*]\]", word.text) is not None
    kind = str(schema.get(flag.replace("-", "_"), {}).get("type", ""))
    return several or (has_value and "list" not in kind) or kind.split(" ")[0] == "bool"


def _named(written: str, values: Sequence[Word], schema: Schema, engine: str) -> tuple[str, Any]:
    name = written.replace("-", "_")
    if name not in schema and name.startswith("no_") and name[3:] in schema:
        return name[3:], False
    name = _unabbreviated(name, schema, engine)
    if not values:
        return name, True
    if not all(word.known for word in values):
        return name, ",".join(word.marked or word.text for word in values)
    if len(values) > 1:
        return name, [_typed(name, word.text, schema) for word in values]
    return name, _typed(name, values[0].text, schema)


def _is_flag(text: str, schema: Schema) -> bool:
    """`-stage`, which is a slip for `--stage`; `-1` is a number."""
    return text[1:].partition("=")[0].replace("-", "_") in schema


def _unabbreviated(name: str, schema: Schema, engine: str) -> str:
    """argparse takes the start of a flag for the flag, where only one begins so."""
    fitting = [known for known in schema if known.startswith(name)]
    listed = name in catalog.misnamed(engine) and not (engine == recognise.TRL and len(fitting) == 1)
    if name in schema or listed:
        return name
    return fitting[0] if len(fitting) == 1 else name


def _typed(name: str, text: str, schema: Schema) -> Any:
    """A flag's text as the parameter's type; texts stay texts (`--dataset 123`)."""
    kind = str(schema.get(name, {}).get("type", ""))
    if "dict" in kind and text.startswith("{"):
        return scalar(text)
    if any(word in kind for word in ("bool", "int", "float")) or not kind:
        return scalar(text)
    return text
