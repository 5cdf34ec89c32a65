"""The fastest layout that fits, by search over all that `auto` leaves open; and why the others lost.

The lattice is small (a few hundred layouts), and memory grows with the micro-batch, so that it is walked in well under a
second without starting anything.
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
"""Sequences of one card at once beyond which nothing gets faster; those up to it that divide a card's share are tried."""
EQUAL = 1.02
"""Layouts this close in time count as equal: the simpler one wins, as it has less that can break."""

_SIMPLE = {"strategy": ("", "ddp", "zero1", "zero2", "zero3", "fsdp2", "fsdp1", "megatron"),
           "offload": ("none", "optimizer", "params"), "checkpointing": ("none", "full")}  # fmt: skip


@frozen
class Cost:
    """What a layout costs. need: bytes of the card it must be given, the upper end of the estimate; limit: bytes there are;
    seconds: of one optimizer step; tokens: a second, on one card; host: bytes of main memory on each machine for what is
    offloaded; host_limit: bytes there are (0: not known); care: how much more room a layout must leave to be chosen. low and
    high: bytes of the card that nine of ten runs need; certain: what no row changes; least: what nearly all runs need; bound:
    what there can be of it at most (0: not known); seq_kind: of the estimate's set-up.
    """

    layout: Layout
    memory: Memory
    need: float
    limit: float
    seconds: float
    tokens: float
    host: float = 0.0
    host_limit: float = 0.0
    care: float = 1.0
    certain: float = 0.0
    least: float = 0.0
    low: float = 0.0
    high: float = 0.0
    bound: float = 0.0
    seq_kind: str = "limit"

    @property
    def fits(self) -> bool:
        return self.need <= self.limit and not self.crowds_host

    @property
    def crowds_host(self) -> bool:
        """Whether what is offloaded is more than main memory."""
        return bool(self.host_limit) and self.host > self.host_limit

    @property
    def refused(self) -> bool:
        """Whether it certainly does not fit: nothing less than that makes an error."""
        return self.crowds_host or (
            bool(self.bound) and is_certain(self.certain, self.least, self.bound, self.seq_kind)
        )

    @property
    def chosen(self) -> bool:
        """Whether it leaves enough room to be chosen: `fits` is for what a recipe fixes."""
        return self.fits and self.need * self.care <= self.limit


@frozen
class Free:
    """What is left open: for each choice its options, in the order tried; a choice the recipe makes has one."""

    methods: Sequence[tuple[str, int]]
    precisions: Sequence[str]
    strategies: Sequence[str]
    offloads: Sequence[str]
    checkpointing: Sequence[str]
    micro: Sequence[int]
    allowed: Callable[[Layout], bool] = field(default=lambda layout: True)

    def layouts(self) -> Iterator[Layout]:
        """Every layout but for the micro-batch, which is the smallest."""
        for method, precision, strategy, offload, again in product(
            self.methods, self.precisions, self.strategies, self.offloads, self.checkpointing
        ):
            layout = Layout(method[0], method[1], precision, strategy, offload, again, self.micro[0])
            if _makes_sense(layout) and self.allowed(layout):
                yield layout


def _makes_sense(layout: Layout) -> bool:
    """Offload needs an engine that does it; parameters can only be moved where they are sharded."""
    if layout.offload == "params":
        return layout.strategy in ("zero3", "fsdp1", "fsdp2")
    if layout.offload == "optimizer":
        return layout.strategy in ("zero1", "zero2", "zero3")
    return True


@frozen
class Ranking:
    """All layouts that were looked at: those that fit, the best first, then the others, the nearest to fitting first."""

    costs: Sequence[Cost]

    @property
    def best(self) -> Cost | None:
        return self.costs[0] if self.costs and self.costs[0].chosen else None

    @property
    def nearest(self) -> Cost | None:
        """What comes nearest to fitting."""
        return next((cost for cost in self.costs if not cost.chosen), None)


def search(free: Free, cost: Callable[[Layout], Cost]) -> Ranking:
    """The ranking over the whole lattice. The time of a step is for the same global batch everywhere.

    Main memory is slow, and its time the hardest to predict: what is offloaded only counts where nothing fits without.
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
    """The fastest first; of those as good as the fastest, the simplest."""
    if not costs:
        return []
    fastest = min(cost.seconds for cost in costs)
    equal = [cost for cost in costs if cost.seconds <= fastest * EQUAL]
    equal.sort(key=lambda cost: (plainness(cost.layout), cost.seconds, cost.layout.micro))
    rest = [cost for cost in costs if cost.seconds > fastest * EQUAL]
    return [*equal, *sorted(rest, key=lambda cost: (cost.seconds, plainness(cost.layout)))]


def plainness(layout: Layout) -> tuple[int, ...]:
    """Simple layouts before those that have more to break."""
    return tuple(order.index(getattr(layout, name)) if getattr(layout, name) in order else len(order)
                 for name, order in _SIMPLE.items())  # fmt: skip
