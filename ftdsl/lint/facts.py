"""Files around an invocation that rules need: folders of models, adapters and outputs, read through the session."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ftdsl import catalog
from ftdsl.diagnostics import Sink
from ftdsl.estimate.architecture import known
from ftdsl.lint.config import Output
from ftdsl.session import Files
from ftdsl.source import Source

_CHECKPOINT = re.compile(r"checkpoint-\d+")
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "model.safetensors.index.json", "model.safetensors",
            "pytorch_model.bin.index.json", "pytorch_model.bin")  # fmt: skip
"""llamafactory/extras/constants.py, CHECKPOINT_NAMES (0.9.5)."""


def lies_in(folder: Path, files: Files) -> Output:
    """Content of an output folder, as a run sees it (llamafactory/hparams/parser.py:484-500, 0.9.5)."""
    if not files.is_dir(folder):
        return "nothing"
    if any(_CHECKPOINT.fullmatch(path.name) and files.is_dir(path) for path in files.glob(folder, "checkpoint-*")):
        return "checkpoint"
    return "model" if any(files.is_file(folder / name) for name in _WEIGHTS) else "nothing"


def adapter_bases(adapters: Iterable[tuple[str, Path]], files: Files) -> Mapping[str, str]:
    """Name -> base model in adapter_config.json, for adapters with a local folder."""
    bases = {
        name: _object(folder / "adapter_config.json", files).get("base_model_name_or_path") for name, folder in adapters
    }
    return {name: base for name, base in bases.items() if isinstance(base, str) and base}


def adapters_of_parameters(adapters: Iterable[tuple[str, Path]], files: Files) -> frozenset[str]:
    """Adapters that change parameters of fused experts, besides modules."""
    return frozenset(
        name for name, folder in adapters if _object(folder / "adapter_config.json", files).get("target_parameters")
    )


def reward_form(folder: Path, files: Files) -> str:
    """What a reward model in a folder is: TRL's is a classifier, LLaMA-Factory's has a value head; "" if unknown."""
    if any(files.is_file(folder / f"value_head.{ending}") for ending in ("safetensors", "bin")):
        return "value head"
    kinds = _object(folder / "config.json", files).get("architectures")
    classifies = isinstance(kinds, list) and any(str(kind).endswith("ForSequenceClassification") for kind in kinds)
    adapts = _object(folder / "adapter_config.json", files).get("task_type") == "SEQ_CLS"
    return "classifier" if classifies or adapts else ""


def adapters_below(adapters: Iterable[tuple[str, Path]], files: Files) -> Mapping[str, tuple[str, ...]]:
    """Name -> the adapters that it was trained on top of, from the training parameters next to it: LlamaBoard's
    training_args.yaml, or the train.yaml of a run of ftc."""
    stacks = {name: below(_trained_with(folder, files)) for name, folder in adapters}
    return {name: stack for name, stack in stacks.items() if stack}


def below(params: Mapping[str, Any]) -> tuple[str, ...]:
    """The adapters below a new one (llamafactory/model/adapter.py:163-186, 0.9.5); () if the first one is trained further."""
    under = params.get("adapter_name_or_path") if params.get("create_new_adapter") in (True, "true", "True") else None
    names = under if isinstance(under, list) else str(under or "").split(",")
    return tuple(str(name).strip() for name in names if str(name).strip())


def _trained_with(folder: Path, files: Files) -> Mapping[str, Any]:
    from ftdsl.language.yaml_tree import read  # only where an adapter is named

    for path in (folder / "training_args.yaml", folder.parent / "train.yaml"):
        try:
            node = read(Source(path.as_posix(), files.text(path)), Sink())
        except (OSError, UnicodeDecodeError):
            continue
        if node is not None and isinstance(node.value, dict):
            return node.value
    return {}


def architecture(model: str, folder: Path | None, files: Files) -> str:
    """transformers' model_type of a model, from its config.json or the catalogue; "" if unknown."""
    model_type = _object(folder / "config.json", files).get("model_type") if folder is not None else None
    if isinstance(model_type, str):
        return model_type
    entry = known(model)
    return entry.family if entry else _by_name(model.rpartition("/")[2])


def layers(model: str, folder: Path | None, files: Files) -> int:
    """Number of blocks of a model, from its config.json or the catalogue; 0 if unknown."""
    count = _object(folder / "config.json", files).get("num_hidden_layers") if folder is not None else None
    entry = known(model)
    return count if isinstance(count, int) else entry.layers if entry else 0


def window(model: str, folder: Path | None, files: Files) -> int:
    """Positions that a model knows, from its config.json, or from the catalogue where they are learned; 0 if unknown."""
    count = _object(folder / "config.json", files).get("max_position_embeddings") if folder is not None else None
    entry = known(model)
    return count if isinstance(count, int) else entry.positions if entry else 0


def _by_name(name: str) -> str:
    for start, patterns in catalog.facts("architectures").items():
        if name.startswith(start):
            return next((kind for pattern, kind in patterns if re.match(pattern, name[len(start) :])), "")
    return ""


def _object(path: Path, files: Files) -> Mapping[str, Any]:
    try:
        document = files.json(path)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
