"""Parallelism and launching: DeepSpeed, accelerate (FSDP), torchrun and Ray, for every engine.

Given: a planned stage. Gives: configuration files, parameters of transformers' Trainer, launch commands and variables, and
errors for combinations that cannot run. Knows: the launchers and sharding libraries, no engine.
"""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Command, Document
from ftdsl.engines.shared.parallel import accelerate, deepspeed
from ftdsl.engines.shared.parallel.check import check
from ftdsl.engines.shared.parallel.common import PYTHON, distributed, equation
from ftdsl.engines.shared.parallel.launch import by_hand, environment, hosts, launch
from ftdsl.engines.shared.stage_context import StageContext

__all__ = [
    "PYTHON",
    "by_hand",
    "check",
    "distributed",
    "documents",
    "environment",
    "equation",
    "gather",
    "launch",
    "with_params",
]


def with_params(context: StageContext, params: dict[str, Any]) -> dict[str, Any]:
    """The stage's parameters, with those that sharding adds."""
    sharded = dict(params)
    if deepspeed.ds_config(context) is not None:
        sharded["deepspeed"] = f"{context.folder}/{deepspeed.NAME}"
    return sharded


def documents(context: StageContext) -> list[Document]:
    """Configuration files besides the engine's YAML."""
    candidates = (deepspeed.ds_config(context), accelerate.accelerate_config(context), hosts(context))
    return [document for document in candidates if document is not None]


def gather(context: StageContext, config: str) -> list[Command]:
    """The command that merges shards into one model, where the engine writes only shards."""
    if not accelerate.shards(context):
        return []
    argv = (PYTHON, "runtime/merge_shards.py", config, "--stage", context.folder)
    return [
        Command(argv, comment="merges the last checkpoint's shards into one model, which the engine does not write")
    ]
