"""How a stage's processes divide the work and how they start: world, DeepSpeed, accelerate, launchers.

Given a stage; gives documents, parameters of transformers' Trainer, commands and environment, and refuses what cannot be.
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
    """The stage's parameters with those that sharding adds."""
    found = dict(params)
    if deepspeed.ds_config(context) is not None:
        found["deepspeed"] = f"{context.folder}/{deepspeed.NAME}"
    return found


def documents(context: StageContext) -> list[Document]:
    """Files beside the engine's YAML."""
    made = (deepspeed.ds_config(context), accelerate.accelerate_config(context), hosts(context))
    return [document for document in made if document is not None]


def gather(context: StageContext, config: str) -> list[Command]:
    """The step that makes one model of shards, where the engine leaves only those."""
    if not accelerate.shards(context):
        return []
    words = (PYTHON, "runtime/merge_shards.py", config, "--stage", context.folder)
    return [Command(words, comment="the last checkpoint's shards become one model: the engine writes none itself")]
