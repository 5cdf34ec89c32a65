"""How many processes a stage has, and how they divide: world = data x tensor x pipeline x context."""

from __future__ import annotations

from ftdsl.language.values import Range
from ftdsl.plan.plan import SPLITS, World
from ftdsl.recipe.recipe import Stage
from ftdsl.session import Session


def world_of(stage: Stage) -> World:
    """Processes of a stage from its `hardware` and `parallel` blocks; an elastic job is planned for its largest size."""
    get = stage.settings.get
    gpu = stage.settings.name("hardware.gpu") or "none"
    nodes = get("hardware.nodes")
    least = int(nodes.low) if isinstance(nodes, Range) else 0
    most = int(nodes.high if isinstance(nodes, Range) else nodes or 1)
    split = {name: value for name in SPLITS if isinstance(value := get(f"parallel.{name}"), int)}
    return World(int(get("hardware.count") or 1), most, "" if gpu == "none" else gpu, least, **split)


def check_world(stage: Stage, world: World, session: Session) -> None:
    """What does not divide is an error that names each factor."""
    sizes = [world.size] if not world.elastic else [world.processes_per_node * world.least_nodes, world.size]
    if any(size % world.split for size in sizes):
        key = next(f"parallel.{name}" for name in SPLITS if getattr(world, name) > 1)
        left = " and ".join(f"{size} processes" for size in sizes)
        text = f"{left} cannot be split into groups of {world.split}"
        label = f"{world.splits} = {world.split}"
        _error(stage, key, text, label, f"make {world.nodes_text} a multiple of {world.split}", session)
        return
    asked = stage.settings.get("parallel.data")
    if isinstance(asked, int) and asked != world.data:
        text = f"`data = {asked}` does not make up the {world.size} processes"
        factors = f"{asked} data" + (f" x {world.splits}" if world.splits else "")
        label = f"{factors} = {asked * world.split}, and there are {world.nodes_text}"
        _error(stage, "parallel.data", text, label, f"write `data = {world.data}`, or drop it", session)
    for name, ranks in (("replicate", world.data), ("expert", world.data * world.context)):
        value = stage.settings.get(f"parallel.{name}")
        if isinstance(value, int) and ranks % value:
            text = f"`{name} = {value}` does not divide the {ranks} data-parallel ranks it is taken from"
            _error(stage, f"parallel.{name}", text, str(world), f"use a divisor of {ranks}", session)


def _error(stage: Stage, key: str, text: str, label: str, help: str, session: Session) -> None:
    span = stage.spans.get(key) or stage.spans.get("parallel", stage.span)
    session.sink.error("FT403", text, span, label=label, help=help)
