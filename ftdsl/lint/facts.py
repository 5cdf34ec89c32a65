"""What lies around an invocation, for the rules that ask: folders of models and adapters, read through the session's files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ftdsl.estimate.architecture import known
from ftdsl.lint.config import Output
from ftdsl.session import Files

_CHECKPOINT = re.compile(r"checkpoint-\d+")
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "model.safetensors.index.json", "model.safetensors",
            "pytorch_model.bin.index.json", "pytorch_model.bin")  # fmt: skip
"""llamafactory/extras/constants.py, CHECKPOINT_NAMES (0.9.5)."""


def lies_in(folder: Path, files: Files) -> Output:
    """What a run finds in its output folder (llamafactory/hparams/parser.py:484-500, 0.9.5)."""
    if not files.is_dir(folder):
        return "nothing"
    if any(_CHECKPOINT.fullmatch(path.name) and files.is_dir(path) for path in files.glob(folder, "checkpoint-*")):
        return "checkpoint"
    return "model" if any(files.is_file(folder / name) for name in _WEIGHTS) else "nothing"


def adapter_bases(adapters: Iterable[tuple[str, Path]], files: Files) -> Mapping[str, str]:
    """Name -> the base that the adapter's own adapter_config.json tells, of those that lie here."""
    told = {
        name: _object(folder / "adapter_config.json", files).get("base_model_name_or_path") for name, folder in adapters
    }
    return {name: base for name, base in told.items() if isinstance(base, str) and base}


def architecture(model: str, folder: Path | None, files: Files) -> str:
    """transformers' model_type of a model: what its config.json says, else the catalogue's; "" when neither knows it."""
    said = _object(folder / "config.json", files).get("model_type") if folder is not None else None
    if isinstance(said, str):
        return said
    found = known(model)
    return found.family if found else ""


def _object(path: Path, files: Files) -> Mapping[str, Any]:
    try:
        found = json.loads(files.text(path))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
