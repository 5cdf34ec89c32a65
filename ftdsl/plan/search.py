"""The fastest layout that fits, by search over all options that `auto` leaves open; and the costs of the others.

The search space is small (a few hundred layouts), and memory grows with the micro-batch: the search takes well under a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from itertools import product

from ftdsl.estimate.fit import is_certain
from ftdsl.estimate.memory import Memory
from ftdsl.plan.engine import Layout
from ftdsl.record import frozen, replace

LARGEST = 128
"""Micro-batch beyond which nothing gets faster; those up to it that divide a GPU's share of the batch are tried."""
EQUAL = 1.02
"""Layouts within this factor of time count as equal: the simpler one wins, as it is more robust."""

_SIMPLE = {"strategy": ("", "ddp", "zero1", "zero2", "zero3", "fsdp2", "fsdp1", "megatron"),
           "offload": ("none", "optimizer", "params"), "checkpointing": ("none", "full")}  # fmt: skip


@frozen
class Cost:
    """The cost of a layout, in bytes and seconds.

    need: GPU memory to plan for, the upper end of the estimate; limit: GPU memory available; seconds: per optimizer step;
    writing: those of them in which answers are written, at most; tokens: per second and GPU; host: least main memory per
    machine for offloading, host_need: that to plan for; host_limit: main memory available (0: unknown); care: factor of
    extra room that a layout must leave to be chosen; low, high: range of GPU memory of nine of ten runs; certain: memory
    that does not depend on rows; least: memory that nearly all runs need; bound: maximum of GPU memory available (0:
    unknown); seq_kind: of the estimate's setup.
    """

    layout: Layout
    memory: Memory
    need: float
    limit: float
    seconds: float
    tokens: float
    host: float = 0.0
    host_need: float = 0.0
    host_limit: float = 0.0
    care: float = 1.0
    certain: float = 0.0
    least: float = 0.0
    low: float = 0.0
    high: float = 0.0
    bound: float = 0.0
    seq_kind: str = "limit"
    writing: float = 0.0

    @property
    def fits(self) -> bool:
        return self.need <= self.limit and not self.crowds_host

    @property
    def crowds_host(self) -> bool:
        """Whether offloading is likely to need more than main memory."""
        return bool(self.host_limit) and self.host_need > self.host_limit

    @property
    def refused(self) -> bool:
        """Whether it certainly does not fit; only that is an error."""
        return (bool(self.host_limit) and self.host > self.host_limit) or (
            bool(self.bound) and is_certain(self.certain, self.least, self.bound, self.seq_kind)
        )

    @property
    def chosen(self) -> bool:
        """Whether it leaves enough room to be chosen; `fits` is for layouts that a recipe fixes."""
        return self.fits and self.need * self.care <= self.limit


@frozen
class Free:
    """The options of each choice, in the order tried; one option if the recipe sets it."""

    methods: Sequence[tuple[str, int]]
    precisions: Sequence[str]
    strategies: Sequence[str]
    offloads: Sequence[str]
    checkpointing: Sequence[str]
    micro: Sequence[int]
    allowed: Callable[[Layout], bool] = field(default=lambda layout: True)

    def layouts(self) -> Iterator[Layout]:
        """All layouts with the smallest micro-batch."""
        for method, precision, strategy, offload, again in product(
            self.methods, self.precisions, self.strategies, self.offloads, self.checkpointing
        ):
            layout = Layout(method[0], method[1], precision, strategy, offload, again, self.micro[0])
            if _makes_sense(layout) and self.allowed(layout):
                yield layout


def _makes_sense(layout: Layout) -> bool:
    """Offloading needs a strategy that supports it; parameters can only be offloaded if they are sharded."""
    if layout.offload == "params":
        return layout.strategy in ("zero3", "fsdp1", "fsdp2")
    if layout.offload == "optimizer":
        return layout.strategy in ("zero1", "zero2", "zero3")
    return True


@frozen
class Ranking:
    """All layouts tried: those that fit, best first, then the others, nearest to fitting first."""

    costs: Sequence[Cost]

    @property
    def best(self) -> Cost | None:
        return self.costs[0] if self.costs and self.costs[0].chosen else None

    @property
    def nearest(self) -> Cost | None:
        """The layout nearest to fitting."""
        return next((cost for cost in self.costs if not cost.chosen), None)


def search(free: Free, cost: Callable[[Layout], Cost]) -> Ranking:
    """Rank the whole search space. Step times are for the same global batch.

    Main memory is slow, and its time is the hardest to predict: layouts with offloading are used only if nothing fits without.
    """
    tried: list[Cost] = []
    for offload in free.offloads:
        ranking = _search(replace(free, offloads=(offload,)), cost)
        if ranking.best:
            return Ranking((*ranking.costs, *tried))
        tried += ranking.costs
    return Ranking(sorted(tried, key=lambda item: (item.need, plainness(item.layout))))


def _search(free: Free, cost: Callable[[Layout], Cost]) -> Ranking:
    fitting: list[Cost] = []
    others: list[Cost] = []
    for layout in free.layouts():
        for micro in free.micro:
            candidate = cost(replace(layout, micro=micro))
            if not candidate.chosen:
                if micro == free.micro[0]:
                    others.append(candidate)
                break
            fitting.append(candidate)
    others.sort(key=lambda item: (item.need, plainness(item.layout)))
    return Ranking((*_ranked(fitting), *others))


def _ranked(costs: list[Cost]) -> list[Cost]:
    """Fastest first; of those as fast as the fastest, the simplest."""
    if not costs:
        return []
    fastest = min(cost.seconds for cost in costs)
    equal = [cost for cost in costs if cost.seconds <= fastest * EQUAL]
    equal.sort(key=lambda cost: (plainness(cost.layout), cost.seconds, cost.layout.micro))
    rest = [cost for cost in costs if cost.seconds > fastest * EQUAL]
    return [*equal, *sorted(rest, key=lambda cost: (cost.seconds, plainness(cost.layout)))]


def plainness(layout: Layout) -> tuple[int, ...]:
    """Sort key: simpler layouts first."""
    return tuple(order.index(getattr(layout, name)) if getattr(layout, name) in order else len(order)
                 for name, order in _SIMPLE.items())  # fmt: skip
