"""A plan for people: for each stage its layout, a bar of memory by term against the card, time, disk, money, ways out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ftdsl.observe.words import duration, number

if TYPE_CHECKING:
    from ftdsl.plan.forecast import Forecast
    from ftdsl.plan.plan import Plan, PlannedStage

GIB = 2.0**30
WIDTH = 48
SHADES = "█▓▒░▚▞▤▥"
COLORS = ("34", "36", "32", "33", "35", "31", "94", "96")


def lines(plan: Plan, found: dict[str, Forecast], *, color: bool = False) -> Iterator[str]:
    """The whole plan; stages that do not train take one line."""
    for at, stage in enumerate(plan.stages):
        if at:
            yield ""
        yield _head(stage, color)
        if stage.key in found:
            yield from _stage(stage, found[stage.key], color)
    hours = sum(one.seconds for one in found.values()) / 3600
    money = sum(one.money for one in found.values())
    if hours:
        known = all(one.seconds for one in found.values())
        yield ""
        said = f"all training: {'' if known else 'at least '}{duration(hours * 3600)}"
        yield said + (f", about {money:,.2f} USD" if money else "")


def _head(stage: PlannedStage, color: bool) -> str:
    world = stage.world
    cards = (
        f"{world.size} x {world.gpu}"
        if world.gpu
        else "on CPU"
        if world.size == 1
        else f"{world.size} processes on CPU"
    )
    words = [
        stage.stage.kind if stage.stage.kind != stage.stage.name else "",
        stage.method,
        stage.strategy,
        stage.precision,
    ]
    said = ", ".join(word for word in (*words, cards if stage.batch else "") if word)
    name = f"\x1b[1m{stage.key}\x1b[0m" if color else stage.key
    return f"{name}  {said}"


def _stage(stage: PlannedStage, one: Forecast, color: bool) -> Iterator[str]:
    yield f"  batch   {stage.batch}"
    if one.cost is None:
        yield f"  memory  not estimated: {one.unknown}"
        yield f"  steps   {one.steps}" if one.steps else f"  steps   not known yet: {one.steps_unknown}"
        return
    yield from _memory(one, color)
    cost = one.cost
    known = f"{number(one.steps)} step{'s' * (one.steps != 1)}: {duration(one.seconds)}"
    steps = f"; {known}" if one.steps else f"; steps not known yet: {one.steps_unknown}"
    yield f"  time    {cost.seconds:.3g} s a step, {cost.tokens:,.0f} tokens/s a card{steps}"
    yield f"  disk    {_gib(one.disk)} of checkpoints, {_gib(one.checkpoint)} each"
    if one.money:
        yield f"  cost    about {one.money:,.2f} USD at {one.price:.2f} a card and hour"
    for choice in stage.choices:
        if choice.told:
            yield f"  chosen  {choice}"
    for at, way in enumerate(one.ways, 1):
        yield f"  way {at}   {way} ({_gib(way.cost.need)}, {way.cost.seconds:.3g} s a step)"
    if not cost.fits and not one.ways:
        yield "  no single change makes it fit: a larger card, or more of them"


def _memory(one: Forecast, color: bool) -> Iterator[str]:
    """The peak by term, the largest first; what the allocator and the context add is drawn as dots."""
    cost = one.cost
    assert cost is not None
    scale = WIDTH / max(cost.limit, cost.need)
    terms = sorted(((n, s) for n, s in cost.memory.peak.terms.items() if s > 0), key=lambda term: -term[1])
    bar, used = "", 0.0
    for at, (_, size) in enumerate(terms):
        cells = round((used + size) * scale) - round(used * scale)
        used += size
        bar += _paint(SHADES[min(at, len(SHADES) - 1)] * cells, at, color)
    slack = max(0, round(cost.need * scale) - round(used * scale))
    rest = max(0, round(cost.limit * scale) - round(used * scale) - slack)
    verdict = "" if cost.fits else "  does not fit"
    yield f"  memory  {bar}{'·' * slack}{' ' * rest}|  {_gib(cost.need)} of {_gib(cost.limit)}{verdict}"
    legend = "  ".join(
        f"{_paint(SHADES[min(at, len(SHADES) - 1)], at, color)} {name} {size / GIB:.1f}"
        for at, (name, size) in enumerate(terms) if size * scale >= 0.4
    )  # fmt: skip
    yield f"          {legend}  · reserve {max(0.0, cost.need - used) / GIB:.1f}"
    where = _PHASES.get(cost.memory.peak.name, cost.memory.peak.name)
    low, high = sorted((cost.memory.reserved / GIB, cost.memory.nvidia_smi / GIB))
    shown = f"; nvidia-smi will show {low:.0f} to {high:.0f} GiB" if cost.fits else ""
    yield f"          at the {where}{shown}"
    if cost.host:
        yield f"          and {_gib(cost.host)} of main memory on each machine"


_PHASES = {"forward": "end of the forward pass", "last": "backward pass of the last layer",
           "first": "backward pass of the first layer", "step": "optimizer's step"}  # fmt: skip


def _paint(text: str, at: int, color: bool) -> str:
    return f"\x1b[{COLORS[at % len(COLORS)]}m{text}\x1b[0m" if color and text else text


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.0f} MiB"
