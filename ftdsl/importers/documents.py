"""YAML and JSON files as `Config`s and `Document`s, every value with its span; files they name are read too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftdsl.importers import recognise, tools
from ftdsl.language import yaml_tree
from ftdsl.language.yaml_tree import Node
from ftdsl.lint.config import Config, Document, Form, Kind, Launch, Setting
from ftdsl.record import frozen, replace
from ftdsl.session import Session, is_absent, reason
from ftdsl.source import Source, Span


@frozen
class Read:
    """A file that was read: its text, its tree, and what it turned out to be; `tool`: whose, where it is another tool's."""

    path: Path
    source: Source
    node: Node
    kind: recognise.Kind
    tool: str = ""

    @property
    def form(self) -> Form:
        return "json" if self.source.text.lstrip().startswith("{") else "yaml"


def read(path: Path, name: str, session: Session) -> Read | None:
    """A YAML or JSON file; None with the reason in the sink when it is none. Raises: OSError."""
    return of_text(path, Source(name, session.files.text(path)), session)


def of_text(path: Path, source: Source, session: Session) -> Read | None:
    node = yaml_tree.read(source, session.sink)
    if node is None:
        return None
    kind = recognise.document(node.value)
    return Read(path, source, node, kind, tools.title(tools.of_document(node.value)) if kind == "other" else "")


def settings(node: Node) -> dict[str, Setting]:
    """Top-level keys as settings; of a repeated key the last counts, as for the engine."""
    return {
        entry.key: Setting(entry.key, entry.value.value, entry.key, entry.value.span, entry.name)
        for entry in node.entries
    }


def config(file: Read, root: Path, session: Session, *, launch: Launch | None = None) -> Config:
    """A LLaMA-Factory file as one invocation, with the DeepSpeed file it names."""
    parameters = settings(file.node)
    return made(parameters, file.form, file.path.name, file.node.span, root, session, launch=launch)


def plain(parameters: Mapping[str, Setting]) -> dict[str, Any]:
    """Values by name."""
    return {name: setting.value for name, setting in parameters.items()}


def made(
    parameters: dict[str, Setting],
    form: Form,
    title: str,
    span: Span,
    root: Path,
    session: Session,
    *,
    kind: Kind | None = None,
    launch: Launch | None = None,
    accelerate: Document | None = None,
    engine: str = recognise.ENGINE,
    trainer: str = "",
) -> Config:
    """A Config of settings, however they were given. trainer: the verb of the engine's command line, where it has verbs."""
    from ftdsl.importers.beside import INFO, around, datasets, report_unreadable

    known = {
        name: setting
        for name, setting in parameters.items()
        if not (isinstance(setting.value, str) and recognise.is_open(setting.value))
    }
    if not trainer:
        report_unreadable(known, root, session)
    if (folder := known.get("dataset_dir")) is not None and not recognise.is_elsewhere(folder.value):
        info = f"{str(folder.value).rstrip('/')}/{INFO}"
        if "dataset" in known and not session.files.exists(root / info):
            report_absent(info, folder, session)
    deepspeed = _deepspeed(known.get("deepspeed"), root, session)
    if deepspeed is None and accelerate is not None and "deepspeed" not in parameters:
        deepspeed = deepspeed_of(accelerate, root, session)
    if trainer:
        launch = _with_environment(launch, parameters.get("env"))
    return Config(
        parameters,
        span,
        engine,
        title=title,
        trainer=trainer,
        kind="train" if trainer else kind or kind_of(parameters),
        form=form,
        deepspeed=deepspeed,
        accelerate=accelerate,
        launch=launch,
        datasets=() if trainer else datasets(known, root, session.files),
        **around(known, root, session.files),
    )


def _with_environment(launch: Launch | None, setting: Setting | None) -> Launch | None:
    """The launch with the variables of a file's own `env` (trl/scripts/utils.py, TrlParser)."""
    if setting is None or not isinstance(setting.value, dict):
        return launch
    env = {str(name): str(value) for name, value in setting.value.items()}
    return replace(launch or Launch(), env={**env, **(launch.env if launch else {})})


def kind_of(parameters: dict[str, Setting]) -> Kind:
    """Which entry point of the engine such a file is for."""
    if "export_dir" in parameters:
        return "export"
    training = ("do_train", "do_predict", "do_eval", "output_dir", "dataset", "eval_dataset", "learning_rate",
                "num_train_epochs", "per_device_train_batch_size")  # fmt: skip
    return "train" if any(name in parameters for name in training) else "chat"


def _deepspeed(setting: Setting | None, root: Path, session: Session) -> Document | None:
    if setting is None:
        return None
    if isinstance(setting.value, dict):
        return Document("deepspeed", setting.value, {}, setting.span)
    if not isinstance(setting.value, str):
        return None
    path = root / setting.value
    try:
        return document(path, setting.value, session)
    except (OSError, UnicodeDecodeError) as error:
        if not is_absent(error):
            session.sink.error("FT050", f"`{setting.value}` cannot be read: {reason(error)}", setting.span)
        else:
            report_absent(setting.value, setting, session)
        return None


_EXAMPLES = re.compile(r"(?:^|/)examples/deepspeed/ds_z\d\w*\.json$")


def report_absent(name: str, setting: Setting, session: Session) -> None:
    """A file that a configuration names and that is not where the engine would look; LLaMA-Factory's own are in its folder."""
    if _EXAMPLES.search(name):
        return
    text = f"there is no file `{name}` here"
    session.sink.warning("FT501", text, setting.span, help="paths are relative to where the engine is started")


def deepspeed_of(accelerate: Document, root: Path, session: Session) -> Document | None:
    """The DeepSpeed set-up of an accelerate file: a file it names, or a stage it gives."""
    inner = accelerate.get("deepspeed_config")
    inner = inner if isinstance(inner, dict) else {}
    if file := accelerate.get("deepspeed_config_file") or inner.get("deepspeed_config_file"):
        where = accelerate.at("deepspeed_config.deepspeed_config_file")
        return _deepspeed(Setting("deepspeed", file, "deepspeed_config_file", where.span, where.key), root, session)
    stage = accelerate.get("zero_stage", inner.get("zero_stage"))
    if stage is None:
        if accelerate.get("distributed_type") != "DEEPSPEED":
            return None
        stage = 2  # accelerate/utils/dataclasses.py:1202
    zero = {"stage": stage} | {
        f"offload_{part}": {"device": device}
        for part, key in (("optimizer", "offload_optimizer_device"), ("param", "offload_param_device"))
        if (device := inner.get(key, "none")) != "none"
    }
    data = {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": zero}  # accelerate/utils/dataclasses.py
    leaves: dict[str, Setting] = {}
    for name in ("gradient_accumulation_steps", "gradient_clipping"):
        if (value := inner.get(name)) is not None:
            data[name] = value
            at = accelerate.at(f"deepspeed_config.{name}")
            leaves[name] = replace(at, name=name)
    return Document(accelerate.title, data, leaves, accelerate.span)


def document(path: Path, title: str, session: Session) -> Document | None:
    """A DeepSpeed or accelerate file. Raises: OSError, UnicodeDecodeError."""
    file = read(path, title, session)
    return None if file is None else document_of(file, title)


def document_of(file: Read, title: str) -> Document:
    leaves = {
        ".".join(map(str, key_path)): Setting(
            ".".join(map(str, key_path)), entry.value.value, str(key_path[-1]), entry.value.span, entry.name
        )
        for key_path, entry in file.node.walk()
    }
    data: Any = file.node.value
    return Document(title, data if isinstance(data, dict) else {}, leaves, file.node.span)
