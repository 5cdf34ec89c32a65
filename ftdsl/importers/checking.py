"""`ftc check` of existing files: the same rules as for recipes, with spans in those files.

What a file names is read too (DeepSpeed and accelerate files, dataset_info.json), and checked with it. Nothing runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ftdsl import catalog
from ftdsl.diagnostics import Diagnostic, Fix, Label, Sink, allow
from ftdsl.environments import Versions, resolve_versions
from ftdsl.importers import dialects, documents, recognise, tools
from ftdsl.importers.beside import INFO, root_of
from ftdsl.importers.documents import Read
from ftdsl.importers.files import config_of, listing, nothing_started, refuse, started_in, written_by
from ftdsl.language.yaml_tree import Node, removal
from ftdsl.lint import facts
from ftdsl.lint.check import check as lint
from ftdsl.lint.check import overridable
from ftdsl.lint.config import Config
from ftdsl.lint.families.documents import FORMATS, unknown_keys, wrong_values
from ftdsl.lint.versions import check_versions
from ftdsl.record import replace
from ftdsl.session import Session, reason
from ftdsl.source import Source, Span

UNKNOWN = "this is no configuration that is known here"
KNOWN = "known are YAML and JSON of LLaMA-Factory and TRL, DeepSpeed and accelerate files, shell scripts, recipes (.ft)"

ASIDE = {"dataset_info": "a list of data sets", "tokens": "special tokens and what they mean"}
"""Files that another one names."""


def check(path: Path, session: Session) -> str:
    """Check a file and those it names; gives a description of the file's kind."""
    try:
        source = Source(path.as_posix(), session.files.text(path))
    except UnicodeDecodeError:
        session.sink.error("FT050", "this is not a UTF-8 text", Span(Source(path.as_posix(), ""), 0, 0))
        return "a file"
    except OSError as error:
        session.sink.error("FT501", f"cannot read `{path.as_posix()}`: {reason(error)}", None)
        return "a file"
    draft = _judged(path, source, session)
    allow.apply(session.sink, [source], overridable)
    return draft


def _judged(path: Path, source: Source, session: Session) -> str:
    kind = recognise.text(source.name, source.text)
    if kind == "command":
        return _script(source, session)
    if kind != "unknown":
        refuse(kind, source, session)
        return "a file"
    file = documents.of_text(path, source, session)
    if file is None:
        return "a file"
    _repeated_key(file.node, session.sink)
    whole = Span(source, file.node.span.start, min(file.node.span.end, file.node.span.start + 1))
    if file.kind in (recognise.ENGINE, recognise.TRL):
        root = root_of(path, documents.settings(file.node), session.files)
        _lint(_without_megatron(config_of(file, root, session), session), session)
        return recognise.described(file.kind)
    if file.kind in ("deepspeed", "accelerate"):
        return _alone(file, session)
    if file.kind == "other":
        sentence = tools.sentence("configuration", file.tool)
        session.sink.error("FT051", sentence, whole)
    elif file.kind in recognise.SENTENCES:
        refuse(file.kind, source, session, whole)
    elif file.kind == "dataset_info":
        _entries(file, session)
        return ASIDE[file.kind]
    elif file.kind in ASIDE:
        session.sink.info("FT051", "this is checked with the file that names it", whole)
        return ASIDE[file.kind]
    elif path.name == INFO:
        text = "a list of data sets must be an object, with a key for each"
        session.sink.error("FT050", text, whole, help='write `{"name": {"file_name": "rows.json"}}`')
    elif not any(diagnostic.code == "FT050" for diagnostic in session.sink):
        session.sink.error("FT051", UNKNOWN, whole, help=KNOWN)
    return "a file"


def _entries(file: Read, session: Session) -> None:
    """Keys of a list of data sets, and whether its files are there."""
    for entry in file.node.entries:
        if not isinstance(entry.value.value, dict):
            session.sink.error("FT523", f"`{entry.key}` is no entry: it takes a table", entry.value.span)
            continue
        for path, guess in unknown_keys(entry.value.value):
            at = _at(entry.value, path.split("."))
            text = f"`{entry.key}` has `{path}`, which LLaMA-Factory does not read"
            if guess and not ("." not in path and list(wrong_values({guess: entry.value.value[path]}))):
                session.sink.error("FT523", text, at, label=f"did you mean `{guess}`?")
            else:
                session.sink.warning("FT523", text, at)
        for path, takes in wrong_values(entry.value.value):
            session.sink.error("FT523", f"`{path}` of `{entry.key}` takes {takes}", _at(entry.value, path.split(".")))
        formatting = entry.value.value.get("formatting", FORMATS[0])
        if isinstance(formatting, str) and formatting not in FORMATS:
            at = _at(entry.value, ["formatting"])
            session.sink.error("FT522", f"an unknown format: `{formatting}`", at, help=f"write {', '.join(FORMATS)}")
        name = entry.value.value.get("file_name")
        if isinstance(name, str) and not session.elsewhere and not session.files.exists(file.path.parent / name):
            at = _at(entry.value, ["file_name"])
            session.sink.warning("FT501", f"there is no file `{name}` beside it", at)


def _at(node: Node, path: Sequence[str]) -> Span:
    """The place of a key in a tree."""
    for entry in node.entries:
        if entry.key == path[0]:
            return entry.name if len(path) == 1 else _at(entry.value, path[1:])
    return node.span


def _without_megatron(config: Config, session: Session) -> Config:
    """Remove arguments of the mcore adapter, which `USE_MCA=1` allows among the engine's own, and report them."""
    if config.trainer:
        return config
    own, theirs = config.schema, catalog.passthrough_schema("megatron")
    arguments = [setting for name, setting in config.settings.items() if name in theirs and name not in own]
    if not arguments:
        return config
    text = f"`{arguments[0].name}` is Megatron's: start it with USE_MCA=1"
    session.sink.info("FT405", text, arguments[0].key, help="USE_MCA=1 llamafactory-cli train FILE")
    left = {setting.name for setting in arguments}
    return replace(config, settings={name: setting for name, setting in config.settings.items() if name not in left})


def _script(source: Source, session: Session) -> str:
    """Check every command of a script. An error if none starts an engine: nothing was checked."""
    from ftdsl.importers import commands, shell

    path = Path(source.name)
    script = shell.read(source, session.sink, listing(path, session))
    session.files = session.files.also(written_by(script, path, session))
    report = commands.Report(script.notes)
    below: dict[str, Sequence[str]] = {}
    count = 0
    engines: set[str] = set()
    for simple in script.commands:
        made = commands.config(simple, script, started_in(path, simple, session), session, report)
        if made is not None:
            config = made[0]
            count += 1
            engines.add(config.engine)
            _lint(replace(config, adapters_below={**config.adapters_below, **below}), session)
            if under := facts.below({name: setting.value for name, setting in config.settings.items()}):
                below[str(config.value("output_dir"))] = under
    for problem in report.problems:
        session.sink.add(problem)
    if not count and not session.sink.failed:
        nothing_started(source, script, report, session.sink)
    names = sorted({dialects.of(engine).title for engine in engines}) or ["LLaMA-Factory"]
    return f"a script; {count} command{'s' * (count != 1)} of {' and '.join(names)}"


def _alone(file: Read, session: Session) -> str:
    """Check a DeepSpeed or accelerate file by itself, without rules about parameters that are not given."""
    document = documents.document_of(file, file.path.name)
    config = Config({}, None, recognise.ENGINE, title=file.path.name, form=file.form)
    inner = replace(session, sink=Sink())
    if file.kind == "deepspeed":
        _lint(replace(config, deepspeed=document), inner)
    else:
        beside = documents.deepspeed_of(document, file.path.parent, session)
        _lint(replace(config, accelerate=document, deepspeed=beside), inner)
    for diagnostic in inner.sink:
        if diagnostic.span is not None and _of_documents(diagnostic, file):
            session.sink.add(diagnostic)
    return "a DeepSpeed configuration" if file.kind == "deepspeed" else "an accelerate configuration"


def _of_documents(diagnostic: Diagnostic, file: Read) -> bool:
    return diagnostic.span is not None and diagnostic.span.source.name in (file.source.name, file.path.name)


def _lint(config: Config, session: Session) -> None:
    resolved = resolve_versions(config.engine, session)
    if config.settings and config.span:
        check_versions(resolved, dialects.of(config.engine).title, Span(config.span.source, 0, 0), session.sink)
    lint(replace(config, versions=held_to(resolved), installed=resolved.installed), session.sink)


def versions(session: Session) -> dict[str, str]:
    """The package versions a file is checked against: those installed here, else the newest known."""
    return held_to(resolve_versions(recognise.ENGINE, session))


def held_to(resolved: Versions) -> dict[str, str]:
    return {name: package.facts or package.version for name, package in resolved.packages.items()}


def _repeated_key(node: Node, sink: Sink) -> None:
    """The engine refuses a repeated key (omegaconf/_utils.py, get_yaml_loader); other readers take the last."""
    seen: dict[str, Span] = {}
    for entry in node.entries:
        if entry.key in seen and entry.key != "<<":
            first = next(other for other in node.entries if other.key == entry.key)
            fix = Fix("drop the first", (removal(node, first),), safe=False)
            labels = (Label(seen[entry.key], "first set here"),)
            sink.error("FT006", f"`{entry.key}` is set twice", entry.name, labels=labels, fix=fix)
        seen.setdefault(entry.key, entry.name)
        _repeated_key(entry.value, sink)
    for item in node.items:
        _repeated_key(item, sink)
