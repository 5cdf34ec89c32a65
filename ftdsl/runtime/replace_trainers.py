"""Replaces LLaMA-Factory's trainers by subclasses with a guard and a batch ramp: its workflows look them up by name.

Source: LLaMA-Factory 0.9.5 (train/*/workflow.py). PPO's trainer has its own loop, and Megatron and Ray do not use these
workflows; what does not work there is refused at compile time.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from . import guarded
from .guard import Guard
from .report import Log
from .stage import Stage

NAMES = {"sft": "CustomSeq2SeqTrainer", "pt": "CustomTrainer", "dpo": "CustomDPOTrainer", "kto": "CustomKTOTrainer",
         "rm": "PairwiseTrainer"}  # fmt: skip
"""The engine's stage -> its trainer."""


def replaced(stage: Stage, config: dict[str, Any], log: Log) -> Guard | None:
    """The guard of one call of the engine; None where its trainer is left as it is."""
    kind = str(config.get("stage"))
    if kind not in NAMES or not config.get("do_train") or os.environ.get("USE_MCA") or os.environ.get("USE_RAY"):
        return None
    guard = guarded.guard_of(stage, str(config["output_dir"]), log, scaled=bool(config.get("fp16")))
    modules = [importlib.import_module(f"llamafactory.train.{kind}.{name}") for name in ("trainer", "workflow")]
    base = _BASES.setdefault(kind, getattr(modules[0], NAMES[kind]))
    added = guarded.guarded(base, guard, stage, counts_tokens=kind in ("sft", "pt"))
    for module in modules:  # a workflow imports its trainer at its top, or where it is made
        setattr(module, NAMES[kind], added)
    return guard if added is not base else None


_BASES: dict[str, type] = {}
"""The engine's own classes: a stage of several parts replaces them anew for each."""
