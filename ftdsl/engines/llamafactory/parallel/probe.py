"""Run by path under an engine's Python: what DeepSpeed and accelerate themselves read, as JSON on standard output.

DeepSpeed has no list of its top-level keys and ignores what it does not know; so its configuration class is given a
dictionary that writes down every key it is asked for.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Any


class Asked(dict[str, Any]):
    """A dictionary that remembers the keys somebody looked for."""

    def __init__(self, *values: Any) -> None:
        super().__init__(*values)
        self.seen: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.seen.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.seen.add(str(key))
        return super().__contains__(key)

    def __getitem__(self, key: str) -> Any:
        self.seen.add(key)
        return super().__getitem__(key)

    def keys(self) -> Any:
        return self


MODELS = {
    "zero_optimization": "runtime.zero.config:DeepSpeedZeroConfig",
    "zero_optimization.offload_optimizer": "runtime.zero.offload_config:DeepSpeedZeroOffloadOptimizerConfig",
    "zero_optimization.offload_param": "runtime.zero.offload_config:DeepSpeedZeroOffloadParamConfig",
    "fp16": "runtime.precision_config:DeepSpeedFP16Config",
    "bf16": "runtime.precision_config:DeepSpeedBF16Config",
    "tensor_parallel": "runtime.tensor_parallel.config:TPTrainingConfig",
    "compile": "compile.config:CompileConfig",
    "comms_logger": "comm.config:CommsLoggerConfig",
    "tensorboard": "monitor.config:TensorBoardConfig",
    "wandb": "monitor.config:WandbConfig",
    "csv_monitor": "monitor.config:CSVConfig",
    "comet": "monitor.config:CometConfig",
}
"""Sections that are pydantic classes: their fields and aliases."""

LOOSE = ("activation_checkpointing", "aio", "checkpoint", "flops_profiler", "optimizer", "scheduler", "torch_autocast",
         "data_types")  # fmt: skip
"""Sections that are read key by key."""


def deepspeed() -> dict[str, Any]:
    """Keys by section; the top level is `""`."""
    from deepspeed.runtime.config import DeepSpeedConfig

    sections = {name: Asked({"type": "x"} if name in ("optimizer", "scheduler") else {}) for name in LOOSE}
    top = Asked({"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1, **sections})
    DeepSpeedConfig(top)
    removed = import_module("deepspeed.runtime.config")._REMOVED_TOP_LEVEL_CONFIG_KEYS
    found = {"": sorted(top.seen - removed.keys())}
    found |= {name: sorted(asked.seen) for name, asked in sections.items()}
    for section, place in MODELS.items():
        module, _, name = place.partition(":")
        fields = getattr(import_module(f"deepspeed.{module}"), name).model_fields
        keys = {alias for field, about in fields.items() for alias in (field, about.alias) if alias}
        found[section] = sorted(keys)
    return {"package": "deepspeed", "version": version("deepspeed"), "sections": found}


def accelerate() -> dict[str, Any]:
    """Keys of the configuration file, and destinations of `accelerate launch` that its sections stand for."""
    from accelerate.commands.config.config_args import ClusterConfig
    from accelerate.commands.launch import launch_command_parser

    flags = [action.dest for action in launch_command_parser()._actions]
    sections = {"": sorted(ClusterConfig.__dataclass_fields__)}
    for section, start in (("fsdp_config", "fsdp_"), ("parallelism_config", "parallelism_config_")):
        sections[section] = sorted(flag for flag in flags if flag.startswith(start))
    starts = ("zero", "offload", "gradient", "deepspeed")
    sections["deepspeed_config"] = sorted(flag for flag in flags if flag.startswith(starts))
    return {"package": "accelerate", "version": version("accelerate"), "sections": sections}


if __name__ == "__main__":
    print("FACTS " + json.dumps([deepspeed(), accelerate()]))
    sys.exit(0)
