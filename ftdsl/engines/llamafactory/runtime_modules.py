"""How our runtime stands around the engine: the modules it is made of, and how a smoke run starts it."""

from __future__ import annotations

from ftdsl.engines.jobs import Command
from ftdsl.engines.llamafactory import parallel
from ftdsl.engines.llamafactory.work import Work
from ftdsl.record import changed

MODULES = ("__init__", "chat", "engine", "extend", "labels", "measure", "report", "stale_locks", "tokens", "watch")
"""`runtime/engine.py` and what it imports."""


def smoke(work: Work) -> tuple[str, ...]:
    """The flag of a smoke run: what looks wrong ends it, and what it makes is marked."""
    return ("--smoke",) if work.plan.recipe.smoke else ()


def trainings(work: Work, config: str, flags: tuple[str, ...]) -> list[Command]:
    """The commands that train. In a smoke run one of each kind is interrupted half way and gone on with: several processes
    are started anew for it, as the state of their groups outlives a training; a single one is not, to save time.
    """
    flags = (*flags, *smoke(work))
    if work.stage.key not in work.plan.recipe.resumed:
        return parallel.launch(work, [config], flags)
    half = str(int(work.get("duration").number) // 2)
    if not parallel.distributed(work):
        return parallel.launch(work, [config], (*flags, "--resume-at", half))
    first = parallel.launch(work, [config], (*flags, "--until", half))
    again = parallel.launch(work, [config], (*flags, "--resumed", half))
    said = ("stopped half way, as if interrupted", "goes on from the checkpoint")
    return [changed(command, comment=text) for command, text in zip([*first, *again], said, strict=True)]
