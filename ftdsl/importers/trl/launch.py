"""`trl sft …` starts `accelerate launch` by itself, whose flags stand among its own (trl/cli)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftdsl import catalog
from ftdsl.catalog.trainers import trainer_schema
from ftdsl.engines.trl.abilities import NAME
from ftdsl.importers import documents, launchers, recognise
from ftdsl.importers.bash_words import Word, shown
from ftdsl.importers.launchers import Started
from ftdsl.importers.trl.trainers import trainer_of_file
from ftdsl.lint.config import Config, Document, Setting
from ftdsl.session import Session, is_absent
from ftdsl.source import Span

FILE = "accelerate_config"


def config_of(file: documents.Read, root: Path, session: Session) -> Config:
    """A file alone, as `trl VERB --config FILE` reads it: it may hold flags of `accelerate launch`."""
    settings = documents.settings(file.node)
    trainer = trainer_of_file(documents.plain(settings), str(file.path))[0]
    started = Started({}, engine=NAME, trainer=trainer, verb=True)
    try:
        accelerate = beside(started, settings, trainer_schema(NAME, trainer), root, session)
    except (OSError, UnicodeDecodeError) as error:
        if not is_absent(error):
            raise
        named = started.flags.pop("config_file")
        help = "write accelerate's settings into this file, or the path of a file that has them"
        session.sink.error("FT501", f"no such file: `{named.text}`", named.span, help=help)
        accelerate = launchers.of_flags(started)
    launch = launchers.launch(started) if started.flags else None
    span, title = file.node.span, file.path.name
    return documents.made(
        settings,
        file.form,
        title,
        span,
        root,
        session,
        launch=launch,
        accelerate=accelerate,
        engine=NAME,
        trainer=trainer,
    )


def beside(
    started: Started, settings: dict[str, Setting], schema: Mapping[str, Any], root: Path, session: Session
) -> Document | None:
    """Take accelerate's flags out of the settings, into the launcher's; the file that `--accelerate_config` names.

    Raises: OSError, UnicodeDecodeError for the file of `--config_file`.
    """
    flags = catalog.schema("accelerate", "", "launch")
    for name in [name for name in settings if name not in schema and (name in flags or name == FILE)]:
        setting = settings.pop(name)
        span = setting.span or setting.key
        if span is not None:
            text = "true" if setting.value is True else str(setting.value)
            unknown = recognise.is_open(text)
            started.flags[name] = Word(shown(text), span, not unknown, text if unknown else "")
    named = started.flags.pop(FILE, None)
    if named is None:
        return _by_flags(started, root, session)
    if named.text in catalog.facts("launch_files")[NAME]:
        return _shipped(named.text, named.span)
    try:
        return documents.document(root / named.text, named.text, session)
    except (OSError, UnicodeDecodeError) as error:
        if not is_absent(error):
            raise
        names = ", ".join(catalog.facts("launch_files")[NAME])
        text = f"`{named.text}` is neither a file nor a configuration of TRL"
        session.sink.error("FT501", text, named.span, help=f"it takes a path, or {names}")
        return None


def _by_flags(started: Started, root: Path, session: Session) -> Document | None:
    if not started.flags:
        return None
    started.launcher = "accelerate"
    try:
        document = launchers.accelerate(started, root, session)
    finally:
        started.launcher = ""
    return document if isinstance(document, Document) else None


_USUAL = {"compute_environment": "LOCAL_MACHINE", "mixed_precision": "bf16", "num_machines": 1, "num_processes": 8}


def _shipped(name: str, span: Span) -> Document:
    """A file that comes with TRL."""
    data: dict[str, Any] = {**_USUAL, **catalog.facts("launch_files")[NAME][name]}
    leaves: dict[str, Setting] = {}
    for key, value in data.items():
        inner = value.items() if isinstance(value, dict) else ()
        leaves[key] = Setting(key, value, key, span, span)
        leaves |= {f"{key}.{part}": Setting(f"{key}.{part}", item, part, span, span) for part, item in inner}
    return Document(f"{name}.yaml", data, leaves, span)
