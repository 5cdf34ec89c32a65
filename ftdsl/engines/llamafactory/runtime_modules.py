"""How our runtime stands around the engine: the modules it is made of, and how a smoke run starts it."""

from __future__ import annotations

from ftdsl.engines.jobs import Command
from ftdsl.engines.shared import parallel
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.record import replace

PROGRAM = "runtime/engine.py"
TRAIN = (PROGRAM, "train")
"""Our program around the engine, and its verb that trains or scores."""

MODULES = ("__init__", "builds", "chat", "engine", "extend", "labels", "measure", "report", "tokens", "watch")
"""`runtime/engine.py` and what it imports."""


def smoke(context: StageContext) -> tuple[str, ...]:
    """The flag of a smoke run: what looks wrong ends it, and what it makes is marked."""
    return ("--smoke",) if context.plan.recipe.smoke else ()


def trainings(context: StageContext, config: str, flags: tuple[str, ...]) -> list[Command]:
    """The commands that train. In a smoke run one of each kind is interrupted half way and gone on with: several processes
    are started anew for it, as the state of their groups outlives a training; a single one is not, to save time.
    """
    flags = (*flags, *smoke(context))
    if context.stage.key not in context.plan.recipe.resumed:
        return parallel.launch(context, TRAIN, [config], flags)
    half = str(int(context.get("duration").number) // 2)
    if not parallel.distributed(context):
        return parallel.launch(context, TRAIN, [config], (*flags, "--resume-at", half))
    first = parallel.launch(context, TRAIN, [config], (*flags, "--until", half))
    again = parallel.launch(context, TRAIN, [config], (*flags, "--resumed", half))
    said = ("stopped half way, as if interrupted", "goes on from the checkpoint")
    return [replace(command, comment=text) for command, text in zip([*first, *again], said, strict=True)]
