"""Configurations of the examples: a YAML fragment over a configuration that is fine, and what stands beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ftdsl.diagnostics import Diagnostic, Sink
from ftdsl.engines.shared.existing_entries import looks_at
from ftdsl.language.yaml_tree import Node, read
from ftdsl.lint.about import Example
from ftdsl.lint.check import check
from ftdsl.lint.config import Config, Dataset, Document, Launch, Setting
from ftdsl.recipe.rows import Look
from ftdsl.session import Files
from ftdsl.source import Source

BASE = {
    "stage": "sft", "do_train": True, "model_name_or_path": "Qwen/Qwen3-8B", "finetuning_type": "lora",
    "dataset": "support", "template": "qwen3", "cutoff_len": 2048, "output_dir": "saves/x", "bf16": True,
    "learning_rate": 1e-4, "per_device_train_batch_size": 1, "report_to": "none", "upcast_layernorm": True,
}  # fmt: skip
TRL_BASE = {"model_name_or_path": "Qwen/Qwen3-8B", "dataset_name": "org/rows", "output_dir": "saves/x", "report_to": "none",
            "bf16": True}  # fmt: skip
TRL_VERSIONS = {"trl": "1.16.0", "transformers": "5.23.0", "peft": "0.21.2", "accelerate": "1.15.0"}
EXPORT = {"model_name_or_path": "Qwen/Qwen3-8B", "template": "qwen3"}
VERSIONS = {"llamafactory": "0.9.5", "transformers": "5.6.0", "peft": "0.18.1", "accelerate": "1.11.0",
            "trl": "0.24.0", "deepspeed": "0.19.8", "datasets": "4.0.0"}  # fmt: skip


def kind_of(said: Mapping[str, Any]) -> Any:
    if any(name.startswith("export_") for name in said):
        return "export"
    return "chat" if said.get("infer_backend") and not said.get("do_train") else "train"


def settings(node: Node | None) -> dict[str, Setting]:
    entries = node.entries if node else ()
    return {e.key: Setting(e.key, e.value.value, e.key, e.value.span, e.name) for e in entries}


def document(title: str, text: str) -> Document:
    node = read(Source(title, text), Sink())
    assert node is not None
    found = {}
    for path, entry in node.walk():
        dotted = ".".join(map(str, path))
        found[dotted] = Setting(dotted, entry.value.value, dotted, entry.value.span, entry.name)
    return Document(title, node.value, found, node.span)


def looks_of(info: Mapping[str, Any], name: str, stage: str, files: Mapping[str, str]) -> tuple[Look, ...]:
    """The rows of a data set whose file is part of the example."""
    entry = info.get(name) or {}
    if (file := entry.get("file_name")) not in files:
        return ()
    with TemporaryDirectory() as folder:
        path = Path(folder) / file
        path.write_text(files[file], encoding="utf-8")
        return looks_at(path, path.parent, entry, stage, Files())


def config_of(example: Example) -> Config:
    """An example as rules see it; what it does not say is as in BASE."""
    text = example.files.get("train.yaml", "")
    source = Source("train.yaml", text)
    said = settings(read(source, Sink()) if text.strip() else None)
    kind = kind_of({name: one.value for name, one in said.items()})
    base = BASE if kind == "train" else EXPORT
    given = dict(example.given)
    if trainer := given.get("trainer", ""):
        kind, base = "train", TRL_BASE
    found = {name: Setting(name, value, name, None, None) for name, value in base.items() if name not in said}
    files = example.files
    info = json.loads(files["dataset_info.json"]) if "dataset_info.json" in files else None
    launch = None
    if given.keys() & {"gpus", "nodes", "launcher"} or any(name.isupper() for name in given):
        env = {name: value for name, value in given.items() if name.isupper()}
        launch = Launch(int(given.get("nodes", 1)), int(given.get("gpus", 1)), given.get("launcher", ""), env)
    names = str(said["dataset"].value if "dataset" in said else BASE["dataset"]).split(",")
    stage = str(said["stage"].value if "stage" in said else BASE["stage"])
    datasets = () if info is None else tuple(
        Dataset(n.strip(), entry=info.get(n.strip()), known=tuple(info), setting=said.get("dataset"),
                columns=given["columns"].split() if "columns" in given else (), looks=looks_of(info, n.strip(), stage, files),
                lengths={95: int(given["p95"])} if "p95" in given else {}) for n in names)  # fmt: skip
    return Config(
        settings={**found, **said},
        span=None,
        engine="trl" if trainer else "llamafactory",
        trainer=trainer,
        title="train.yaml",
        kind=kind,
        form="json" if given.get("form") == "json" else "yaml",
        deepspeed=document("ds_config.json", files["ds_config.json"]) if "ds_config.json" in files else None,
        accelerate=document("accelerate.yaml", files["accelerate.yaml"]) if "accelerate.yaml" in files else None,
        launch=launch,
        gpu=given.get("gpu"),
        versions=(TRL_VERSIONS if trainer else VERSIONS)
        | {name: given[name] for name in given if name in {*VERSIONS, "torch"}},
        datasets=datasets,
        installed=frozenset(given["installed"].split()) if "installed" in given else None,
        output=given.get("output", ""),  # type: ignore[arg-type]
        architecture=given.get("architecture", ""),
        layers=int(given.get("layers", 0)),
        window=int(given.get("window", 0)),
        reward_form=given.get("reward", "").replace("_", " "),
        adapters_of_parameters=frozenset(given.get("parameters", "").split()),
        adapters_below={k: tuple(v.split(",")) for k, v in [given["below"].split(":")]} if "below" in given else {},
        adapter_bases=dict([given["adapter"].split(":")]) if "adapter" in given else {},
    )


def lint(example: Example) -> list[Diagnostic]:
    sink = Sink()
    check(config_of(example), sink)
    return list(sink)
