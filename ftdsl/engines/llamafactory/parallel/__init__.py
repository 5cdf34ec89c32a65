"""How a stage's processes divide the work and how they start: world, DeepSpeed, accelerate, Megatron, launchers.

Given a stage at work; gives documents, parameters of the engine, commands and environment, and refuses what cannot be.
"""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Command, Document
from ftdsl.engines.llamafactory.parallel import accelerate, deepspeed, megatron
from ftdsl.engines.llamafactory.parallel.check import check
from ftdsl.engines.llamafactory.parallel.common import PYTHON, distributed, equation
from ftdsl.engines.llamafactory.parallel.launch import ENGINE, by_hand, environment, hosts, launch, ray_params
from ftdsl.engines.llamafactory.work import Work

__all__ = [
    "ENGINE",
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


def with_params(work: Work, params: dict[str, Any]) -> dict[str, Any]:
    """The stage's parameters with those that sharding and launching add or take away."""
    found = megatron.heard(work, params) | ray_params(work)
    if deepspeed.ds_config(work) is not None:
        found["deepspeed"] = f"{work.folder}/{deepspeed.NAME}"
    return found


def documents(work: Work) -> list[Document]:
    """Files beside the engine's YAML."""
    made = (deepspeed.ds_config(work), accelerate.accelerate_config(work), hosts(work))
    return [document for document in made if document is not None]


def gather(work: Work, config: str) -> list[Command]:
    """The step that makes one model of shards, where the engine leaves only those."""
    if not accelerate.shards(work):
        return []
    words = (PYTHON, "runtime/merge_shards.py", config, "--stage", work.folder)
    return [Command(words, comment="the last checkpoint's shards become one model: the engine writes none itself")]
