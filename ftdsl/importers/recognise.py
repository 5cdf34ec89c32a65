"""What a file is, by its content: one judgement for every verb. The name counts only where the content leaves it open."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any, Literal, TypeAlias

from ftdsl import catalog
from ftdsl.importers import tools
from ftdsl.importers.bash_words import OPEN
from ftdsl.language.endings import OTHERS

Kind: TypeAlias = Literal[
    "llamafactory", "trl",
    "llamafactory-v1", "deepspeed", "accelerate", "dataset_info", "tokens", "command", "other", "wandb", "batch",
    "powershell", "python", "notebook", "recipe", "unknown"
]  # fmt: skip

ENGINE = "llamafactory"
"""The engine whose configurations can be upgraded, and completed in an editor."""
TRL = "trl"

_DEEPSPEED = ("zero_optimization", "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_clipping", "bf16", "fp16",
              "zero_allow_untested_optimizer", "bfloat16", "optimizer", "scheduler", "wall_clock_breakdown",
              "steps_per_print")  # fmt: skip
_ACCELERATE = ("compute_environment", "distributed_type", "fsdp_config", "deepspeed_config", "machine_rank", "num_machines",
               "num_processes", "rdzv_backend", "downcast_bf16", "main_training_function", "mixed_precision",
               "tpu_env", "same_network", "gpu_ids", "dynamo_config", "main_process_port")  # fmt: skip
_V1 = ("train_dataset", "dist_config", "kernel_config", "peft_config", "quant_config", "sample_backend", "model_class",
       "init_config", "eval_dataset")  # fmt: skip
LOCATION_KEYS = ("file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")


V1 = "this is a file of LLaMA-Factory's v1 trainer, which is being rewritten and takes other keys; recipes are for v0"
WANDB = "this is the record of a run by Weights & Biases (`desc`, `value`), not a training configuration"
SENTENCES: Mapping[str, str] = {
    "llamafactory-v1": V1,
    "wandb": WANDB,
    "batch": "this is a Windows batch file; ftc does not read those",
    "powershell": "this is a PowerShell script; ftc does not read those",
    "python": "this is a Python script; ftc does not read those",
    "notebook": "this is a notebook; ftc does not read those",
}
HELPS: Mapping[str, str] = {
    "batch": "give `ftc` the command line in it: `ftc import -`",
    "powershell": "give `ftc` the command line in it: `ftc import -`",
    "python": "give `ftc` the YAML it trains with, or the command line",
    "notebook": "give `ftc` the YAML it trains with, or the command line",
}
_DESCRIBED: Mapping[str, str] = {
    "llamafactory": "a LLaMA-Factory configuration",
    "trl": "a TRL configuration",
    "llamafactory-v1": "a file of LLaMA-Factory's v1 trainer",
    "deepspeed": "a DeepSpeed configuration",
    "accelerate": "an accelerate configuration",
    "dataset_info": "a list of data sets",
    "tokens": "a list of special tokens",
    "wandb": "a record of Weights & Biases",
}


def described(kind: str, tool: str = "") -> str:
    """`a configuration of TRL`, `a DeepSpeed configuration`."""
    return f"a configuration of {tool}" if tool else _DESCRIBED.get(kind, "no configuration that is known here")


def is_open(text: str) -> bool:
    """Whether a text contains a variable whose value is known only to a running shell."""
    return OPEN in text


def is_elsewhere(folder: Any) -> bool:
    """Whether a `dataset_dir` is no folder: `ONLINE`, `REMOTE:org/name`."""
    return not isinstance(folder, str) or folder == "ONLINE" or ":" in folder


def document(data: Any) -> Kind:
    """What a YAML or JSON document is."""
    if not isinstance(data, Mapping):
        return "unknown"
    keys = {str(key) for key in data}
    if "nbformat" in keys and "cells" in keys:
        return "notebook"
    tables = [value for value in data.values() if isinstance(value, Mapping)]
    if (
        tables
        and sum("value" in table and set(map(str, table)) <= {"desc", "value"} for table in tables) > len(keys) // 2
    ):
        return "wandb"
    v0 = sum(catalog.parameter_status("llamafactory", key) is not None for key in keys)
    model = data.get("model")
    v1 = len(keys & set(_V1)) + sum(isinstance(data.get(name), Mapping) and "name" in data[name] for name in _V1)
    deepspeed = len(keys & set(_DEEPSPEED)) - len(keys & {"bf16", "fp16"}) * (not _nested(data))
    scores = {
        "accelerate": len(keys & set(_ACCELERATE)),
        "deepspeed": deepspeed + 2 * ("zero_optimization" in keys),
        "llamafactory-v1": 2
        * v1
        * bool(isinstance(model, str | Mapping) or "peft_config" in keys or "dist_config" in keys),
        "llamafactory": v0 + 2 * ("model_name_or_path" in keys) + ("stage" in keys),
    }
    best = max(scores, key=lambda kind: scores[kind])
    if best == "llamafactory-v1" and "model_name_or_path" in keys:
        best = "llamafactory"
    tool = tools.of_document(data)
    if best == "llamafactory" and keys & tools._OURS and not tool:
        return "llamafactory"
    if (best not in ("deepspeed", "accelerate") or not scores[best]) and tool:
        return "other" if tool != TRL else "unknown" if _is_of_a_program_of_its_own(keys) else "trl"
    if best == "llamafactory" and "model_name_or_path" not in keys and v0 < max(2, len(keys) / 2):
        return "unknown"
    if scores[best]:
        return best  # type: ignore[return-value]
    if all(isinstance(value, str) for value in data.values()) and all("<" in key for key in keys):
        return "tokens"
    return (
        "dataset_info" if tables and any(set(map(str, table)) & set(LOCATION_KEYS) for table in tables) else "unknown"
    )


def _is_of_a_program_of_its_own(keys: Set[str]) -> bool:
    """Whether most keys are none of TRL's, and none names a model: a program hands some of them on to TRL."""
    known = sum(
        any(catalog.parameter_status(engine, key) for engine in (TRL, ENGINE)) or key in catalog.misnamed(TRL)
        for key in keys
    )
    return "model_name_or_path" not in keys and 2 * known < len(keys)


def _nested(data: Mapping[str, Any]) -> bool:
    """DeepSpeed's `bf16` is a table; LLaMA-Factory's is a switch."""
    return any(isinstance(data.get(name), Mapping) for name in ("bf16", "fp16"))


DOCUMENTS = (*OTHERS["a YAML file"], *OTHERS["a JSON file"])
_SHELLS = (*OTHERS["a shell script"], ".ksh")


def text(name: str, content: str) -> Kind:
    """The kind of a text that is not a document: "unknown" for one that has to be parsed as YAML or JSON.

    `name`: of the file, "" or `stdin` for none.
    """
    ending = name[name.rfind(".") :].lower() if "." in name.rpartition("/")[2] else ""
    if ending == ".ft":
        return "recipe"
    start = content.lstrip("\ufeff \t\r\n")
    if start.startswith("{") and '"nbformat"' in content and '"cells"' in content:
        return "notebook"
    if ending in DOCUMENTS:
        return "unknown"
    first = start.partition("\n")[0].strip().lower()
    if ending in OTHERS["a Windows batch file"] or first.startswith(("@echo", "@rem", "@setlocal")):
        return "batch"
    if ending in (".ps1", ".psm1") or re.match(r"(param\s*\(|\$env:|#requires)", first):
        return "powershell"
    if first.startswith("#!"):
        return "python" if "python" in first else "command"
    if ending in _SHELLS:
        return "command"
    if ending in (".py", ".pyi") or re.search(
        r"^(from [\w.]+ import |import \w+(?:, \w+)*$|def \w+\(.*\):|class \w+.*:)", content, re.M
    ):
        return "python"
    if ending == ".ipynb":
        return "notebook"
    return "command" if is_command(content) else "unknown"


def is_command(content: str) -> bool:
    """A shell script or a command line: the first word that is not a comment starts one."""
    for line in content.splitlines():
        words = line.strip().split()
        if not words or words[0].startswith("#"):
            continue
        return ":" not in words[0] and not words[0].startswith(("{", "[", "-", '"')) and not line.strip().endswith(":")
    return False


def is_recipe(name: str, content: str) -> bool:
    """Recipes are known by their ending; a file with an ending nobody knows is one unless it looks like something else."""
    kind = text(name, content)
    return kind == "recipe" or (kind == "unknown" and not name.lower().endswith(DOCUMENTS) and not _is_json(content))


def _is_json(content: str) -> bool:
    return content.lstrip().startswith(("{\n", '{"', '{ "', "[{"))
