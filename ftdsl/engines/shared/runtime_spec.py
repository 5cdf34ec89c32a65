"""`stage.json`, the instructions for ftdsl's runtime around an engine, and the commands of a training."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Command, Document
from ftdsl.engines.shared import parallel
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.record import replace

SPEC = "stage.json"


def spec_path(folder: str) -> str:
    return f"{folder}/{SPEC}"


def spec(
    context: StageContext,
    kind: str,
    parts: list[dict[str, Any]],
    added: Document | None,
    *,
    folder: str = "",
    **more: Any,
) -> Document:
    """`stage.json` of a stage; runtime/stage.py documents the keys. Keys that are not needed are omitted.

    parts: calls of the engine, each with its `config`; added: the stage's extend.json; folder: if not the stage's own.
    """
    folder = folder or context.folder
    data: dict[str, Any] = {"stage": folder, "kind": kind, "parts": parts}
    if kind in ("train", "eval"):
        world = context.planned.world
        data["world"] = world.size
        if world.elastic:
            data["at_least"] = world.processes_per_node * world.least_nodes
    data |= more
    if added:
        data["extend"] = added.path
    if context.plan.recipe.smoke:
        data["smoke"] = True
    return Document(spec_path(folder), "json", data, bookkeeping=("watch", "card"))


def trainings(context: StageContext, program: str, config: str) -> tuple[list[dict[str, Any]], list[Command]]:
    """Parts of a training, and the commands that start them. A smoke run interrupts one stage of each kind half way and resumes
    it: with several processes they are restarted for this, since the state of process groups outlives a training; a single
    process is not restarted, to save time.

    program: the runtime's, around the engine; config: the document of its parameters.
    """
    if context.stage.key not in context.plan.recipe.resumed:
        return [{"config": config}], parallel.launch(context, (program, "train"), 1)
    half = int(context.get("duration").number) // 2
    parts = [{"config": config, "until": half}, {"config": config, "resumed": half}]
    if not parallel.distributed(context):
        return parts, parallel.launch(context, (program, "train"), 2)
    comments = ("stops half way, as if interrupted", "resumes from the checkpoint")
    commands = parallel.launch(context, (program, "train"), 2)
    return parts, [replace(command, comment=text) for command, text in zip(commands, comments, strict=True)]
