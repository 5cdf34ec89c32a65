"""The processes of a stage, and how they divide the work: world = data x tensor x pipeline x context."""

from __future__ import annotations

from ftdsl.language.values import Range
from ftdsl.recipe.recipe import Stage
from ftdsl.record import frozen
from ftdsl.session import Session

SPLITS = ("tensor", "pipeline", "context")
"""The ways to divide the ranks that process the same rows."""


@frozen
class World:
    """The processes of a stage: size = data x tensor x pipeline x context.

    gpu: the catalogue's name, "" for CPU; nodes: their number, the largest if elastic; least_nodes: the smallest (0: not
    elastic).
    """

    processes_per_node: int = 1
    nodes: int = 1
    gpu: str = ""
    least_nodes: int = 0
    tensor: int = 1
    pipeline: int = 1
    context: int = 1

    @property
    def size(self) -> int:
        return self.processes_per_node * self.nodes

    @property
    def split(self) -> int:
        """Ranks that process the same rows."""
        return self.tensor * self.pipeline * self.context

    @property
    def data(self) -> int:
        """Ranks, or groups of ranks, that process different rows."""
        return self.size // self.split

    @property
    def elastic(self) -> bool:
        return self.least_nodes > 0

    @property
    def nodes_text(self) -> str:
        """`2 nodes x 8 processes`; for an elastic job, the largest number."""
        processes = f"{self.processes_per_node} process{'es' * (self.processes_per_node > 1)}"
        return f"{self.nodes} nodes x {processes}" if self.nodes > 1 else processes

    @property
    def splits(self) -> str:
        """`4 tensor x 2 pipeline`."""
        return " x ".join(f"{size} {name}" for name in SPLITS if (size := getattr(self, name)) > 1)

    def __str__(self) -> str:
        factors = f"{self.data} data-parallel" + (f" x {self.splits}" if self.splits else "")
        return f"{self.nodes_text} = {self.size} = {factors}" if self.nodes > 1 else f"{self.nodes_text} = {factors}"


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
    """Sizes that do not divide are errors that name each factor."""
    sizes = [world.size] if not world.elastic else [world.processes_per_node * world.least_nodes, world.size]
    if any(size % world.split for size in sizes):
        key = next(f"parallel.{name}" for name in SPLITS if getattr(world, name) > 1)
        left = " and ".join(f"{size} processes" for size in sizes)
        text = f"{left} cannot be split into groups of {world.split}"
        label = f"{world.splits} = {world.split}"
        _error(stage, key, text, label, f"make {world.nodes_text} a multiple of {world.split}", session)
        return
    data = stage.settings.get("parallel.data")
    if isinstance(data, int) and data != world.data:
        text = f"`data = {data}` does not fit {world.size} processes"
        factors = f"{data} data" + (f" x {world.splits}" if world.splits else "")
        label = f"{factors} = {data * world.split}, and there are {world.nodes_text}"
        _error(stage, "parallel.data", text, label, f"write `data = {world.data}`, or drop it", session)
    for name, ranks in (("replicate", world.data), ("expert", world.data * world.context)):
        value = stage.settings.get(f"parallel.{name}")
        if isinstance(value, int) and ranks % value:
            text = f"`{name} = {value}` does not divide the {ranks} data-parallel ranks"
            _error(stage, f"parallel.{name}", text, str(world), f"use a divisor of {ranks}", session)


def _error(stage: Stage, key: str, text: str, label: str, help: str, session: Session) -> None:
    span = stage.spans.get(key) or stage.spans.get("parallel", stage.span)
    session.sink.error("FT403", text, span, label=label, help=help)
