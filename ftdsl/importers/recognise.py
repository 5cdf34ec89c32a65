"""What a file is, by its content: never by its name alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from ftdsl import catalog

Kind: TypeAlias = Literal[
    "llamafactory", "llamafactory-v1", "deepspeed", "accelerate", "dataset_info", "tokens", "command", "unknown"
]

ENGINE = "llamafactory"
"""The engine whose own configurations are read."""

_DEEPSPEED = ("zero_optimization", "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_clipping", "bf16", "fp16",
              "zero_allow_untested_optimizer")  # fmt: skip
_ACCELERATE = ("compute_environment", "distributed_type", "fsdp_config", "deepspeed_config", "machine_rank", "num_machines",
               "rdzv_backend", "downcast_bf16", "main_training_function")  # fmt: skip
_V1 = ("train_dataset", "dist_config", "kernel_config", "peft_config", "quant_config", "sample_backend", "model_class",
       "micro_batch_size", "init_config")  # fmt: skip
_PLACES = ("file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")


V1 = "this is a file of LLaMA-Factory's v1 trainer, which is being rewritten and takes other keys; recipes are for v0"


def document(data: Any) -> Kind:
    """What a YAML or JSON document is."""
    if not isinstance(data, Mapping):
        return "unknown"
    keys = {str(key) for key in data}
    v0 = sum(catalog.parameter_status("llamafactory", key) is not None for key in keys)
    scores = {
        "accelerate": len(keys & set(_ACCELERATE)),
        "deepspeed": len(keys & set(_DEEPSPEED)) - len(keys & {"bf16", "fp16"}) * (not _nested(data)),
        "llamafactory-v1": 2 * len(keys & set(_V1)) + 2 * ("model" in keys and "model_name_or_path" not in keys),
        "llamafactory": v0 + 2 * ("model_name_or_path" in keys) + ("stage" in keys),
    }
    best = max(scores, key=lambda kind: scores[kind])
    if not scores[best] and all(isinstance(value, str) for value in data.values()) and all("<" in key for key in keys):
        return "tokens"
    if not scores[best]:
        entries = [value for value in data.values() if isinstance(value, Mapping)]
        return "dataset_info" if entries and all(keys & set(_PLACES) for keys in map(set, entries)) else "unknown"
    if best == "llamafactory-v1" and "model_name_or_path" in keys:
        best = "llamafactory"
    return best  # type: ignore[return-value]


def _nested(data: Mapping[str, Any]) -> bool:
    """DeepSpeed's `bf16` is a table; LLaMA-Factory's is a switch."""
    return any(isinstance(data.get(name), Mapping) for name in ("bf16", "fp16"))


def is_recipe(name: str, text: str) -> bool:
    """Recipes are known by their ending; a text without one counts as a recipe unless it looks like something else."""
    return name.endswith(".ft")


def is_command(text: str) -> bool:
    """A shell script or a command line: the first word that is not a comment starts one."""
    for line in text.splitlines():
        words = line.strip().split()
        if not words or words[0].startswith("#"):
            continue
        return ":" not in words[0] and not words[0].startswith(("{", "[", "-", '"')) and not line.strip().endswith(":")
    return False
