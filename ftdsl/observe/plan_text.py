"""A plan for people: for each stage how it stands, its layout, a bar of memory by term, time, disk, money, ways out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import field
from textwrap import wrap
from typing import TYPE_CHECKING

from ftdsl.observe.status import BROKEN, CHANGED, DONE, MARKS, NEW, RUNNING, Compared, StageStatus
from ftdsl.observe.text import duration, gib, number
from ftdsl.printable import printable
from ftdsl.record import frozen

if TYPE_CHECKING:
    from ftdsl.plan.forecast import Forecast
    from ftdsl.plan.plan import Plan, PlannedStage
    from ftdsl.plan.untrained import Footprint

GIB = 2.0**30
WIDTH = 48
"""Cells of the bar where there is room."""

NARROW = 16
"""Cells below which the bar gets a line of its own."""

INDENT = 10
SHADES = "█▓▒░▚▞▤▥"
COLORS = ("34", "36", "32", "33", "35", "31", "94", "96")
STATES = {DONE: "2", CHANGED: "33", NEW: "32", BROKEN: "31", RUNNING: "36"}


@frozen
class PlanView:
    """All that is shown of a plan, by stage: forecasts of those that train, what others take, how each stands, and what was
    measured. `extra`: jobs without a stage of their own (models made from nothing), title by key.
    """

    plan: Plan
    forecasts: Mapping[str, Forecast]
    lights: Mapping[str, Footprint] = field(default_factory=dict)
    statuses: Mapping[str, StageStatus] = field(default_factory=dict)
    compared: Mapping[str, Compared] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)


@frozen
class TextStyle:
    """How wide a line may be, and whether there is colour."""

    width: int = 100
    color: bool = False

    def paint(self, text: str, code: str) -> str:
        text = printable(text)
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and text else text

    def said(self, label: str, text: str) -> Iterator[str]:
        """A label and its text, broken where the line would grow too long."""
        parts = wrap(printable(text), max(30, self.width - INDENT), break_on_hyphens=False, break_long_words=False) or [
            ""
        ]
        yield f"  {label:{INDENT - 2}}{parts[0]}"
        yield from (" " * INDENT + part for part in parts[1:])


def lines(plan_view: PlanView, *, width: int = 100, color: bool = False) -> Iterator[str]:
    """The whole plan. What is said of one variant is not said again of the next."""
    style = TextStyle(width, color)
    before: dict[tuple[str, ...], str] = {}
    tall = False
    for at, key in enumerate((*plan_view.extra, *(stage.key for stage in plan_view.plan.stages))):
        found = [*_why(plan_view.statuses.get(key), style), *_body(key, plan_view, style)]
        if len(found) > 3 and (first := before.setdefault(tuple(found), key)) != key:
            found = [f"  all as {first}"]
        if at and (tall or len(found) > 1):
            yield ""
        yield _head(key, plan_view, style)
        yield from found
        tall = len(found) > 1
    yield ""
    for text in _end(plan_view):
        yield from wrap(text, max(30, width), subsequent_indent="  ")


def _head(key: str, plan_view: PlanView, style: TextStyle) -> str:
    status = plan_view.statuses.get(key)
    planned = next((one for one in plan_view.plan.stages if one.key == key), None)
    said = _words(planned) if planned else plan_view.extra[key]
    name = style.paint(key, "1")
    if status is None:
        return f"{name}  {said}".rstrip()
    state = f"done in {status.run}" if status.state == DONE else status.state
    head = f"{style.paint(MARKS[status.state], STATES[status.state])} {name}  {said}".rstrip()
    return f"{head}: {style.paint(state, STATES[status.state])}"


def _words(stage: PlannedStage) -> str:
    world = stage.world
    cards = f"{world.size} x {world.gpu}"
    if not world.gpu:
        cards = "on CPU" if world.size == 1 else f"{world.size} processes on CPU"
    kind = stage.stage.kind if stage.stage.kind != stage.stage.name else ""
    settings = stage.stage.settings
    bits = f" on {settings.get('quantize.bits') or 4} bits" if stage.method and settings.has("quantize") else ""
    return ", ".join(
        word for word in (kind, stage.method + bits, stage.strategy, stage.precision, cards * bool(stage.batch)) if word
    )


def _why(status: StageStatus | None, style: TextStyle) -> Iterator[str]:
    for at, reason in enumerate(status.why if status else ()):
        yield from style.said("because" if not at else "", reason)


def _body(key: str, plan_view: PlanView, style: TextStyle) -> Iterator[str]:
    status = plan_view.statuses.get(key)
    if key in plan_view.forecasts and status and not status.runs:
        if key in plan_view.compared:
            yield from style.said("took", _compared(plan_view.compared[key]))
    elif key in plan_view.forecasts:
        yield from _stage(plan_view.plan.stage(key), plan_view.forecasts[key], style)
    elif key in plan_view.lights and not (status and not status.runs):
        yield from _light(plan_view.lights[key], style)


def _compared(one: Compared) -> str:
    """Of rows shorter than they may be, the plan is for those that came."""
    rows = f", for rows of {one.length} tokens as they came" if one.limit and one.length < one.limit * 0.95 else ""
    busy = f"; {one.wall:.3g} s with what else the machine did" if one.wall > 1.25 * one.step else ""
    return (
        f"{gib(one.memory)} and {one.step:.3g} s a step, measured; planned {gib(one.planned_memory)} "
        f"({_off(one.memory, one.planned_memory)}) and {one.planned_step:.3g} s ({_off(one.step, one.planned_step)}){rows}{busy}"
    )


def _off(found: float, planned: float) -> str:
    """`+5%`: so much more than planned."""
    return f"{round(100 * (found / planned - 1)):+d}%"


def _light(one: Footprint, style: TextStyle) -> Iterator[str]:
    said = [f"{number(one.rows)} row{'s' * (one.rows != 1)}"] if one.rows is not None else []
    if one.memory:
        place = "the card" if one.card else "main memory"
        most = f"up to {gib(one.memory)} of {place} for rows of {one.length} tokens"
        said.append(most if one.length else f"about {gib(one.memory)} of {place}")
    if one.disk:
        said.append(f"writes about {_bytes(one.disk)}")
    if one.unknown:
        said.append(one.unknown)
    if said:
        yield from style.said("takes", ", ".join(said))


def _bytes(size: float) -> str:
    return gib(size) if size >= 2**20 else f"{max(1, round(size / 1024))} KiB"


def _stage(stage: PlannedStage, one: Forecast, style: TextStyle) -> Iterator[str]:
    for equation in stage.equations:
        yield from style.said("batch", equation)
    cost = one.cost
    if cost is None:
        yield from style.said("memory", f"not estimated: {one.unknown}")
        yield from style.said("steps", number(one.steps) if one.steps else f"not known yet: {one.steps_unknown}")
        return
    yield from _memory(one, style)
    known = f"{number(one.steps)} step{'s' * (one.steps != 1)}: {duration(one.seconds)}"
    steps = known if one.steps else f"steps not known yet: {one.steps_unknown}"
    each = "a card" if stage.world.gpu else "a process" if stage.world.size > 1 else ""
    yield from style.said(
        "time", f"{cost.seconds:.3g} s a step, {f'{cost.tokens:,.0f} tokens/s {each}'.rstrip()}; {steps}"
    )
    yield from style.said("disk", f"{gib(one.disk)} of checkpoints, {gib(one.checkpoint)} each")
    if one.money:
        money = f"about {one.money:,.2f}" if one.money >= 0.005 else "less than 0.01"
        yield from style.said("cost", f"{money} USD at {one.price:.2f} a card and hour ({one.priced_by})")
    for choice in stage.choices:
        if choice.reported:
            yield from style.said("chosen", str(choice))
    for at, way in enumerate(one.ways, 1):
        yield from style.said(f"way {at}", f"{way} ({gib(way.cost.need)}, {way.cost.seconds:.3g} s a step)")
    if not cost.fits and not one.ways:
        yield from style.said("", "no single change makes it fit: a larger card, or more of them" if stage.world.gpu else
                            "this machine has too little main memory for it")  # fmt: skip


def _memory(one: Forecast, style: TextStyle) -> Iterator[str]:
    """The peak by term, the largest first; what the allocator and the context add is drawn as dots."""
    cost = one.cost
    assert cost is not None
    verdict = f"{gib(cost.need)} of {gib(cost.limit)}" + ("" if cost.fits else "  does not fit")
    beside = min(WIDTH, style.width - INDENT - len(verdict) - 3)
    cells = beside if beside >= NARROW else max(10, style.width - INDENT - 1)
    scale = cells / max(cost.limit, cost.need)
    terms = sorted(((n, s) for n, s in cost.memory.peak.terms.items() if s > 0), key=lambda term: -term[1])
    bar, used = [], 0.0
    for at, (_, size) in enumerate(terms):
        part = round((used + size) * scale) - round(used * scale)
        used += size
        bar += [style.paint(_shade(at), COLORS[at % len(COLORS)])] * part
    bar += ["·"] * max(0, round(cost.need * scale) - len(bar))
    bar += [" "] * max(0, round(cost.limit * scale) - len(bar))
    bar.insert(round(cost.limit * scale), "|")  # where the card ends
    whole = f"  {'memory':{INDENT - 2}}{''.join(bar)}"
    yield from [f"{whole}  {verdict}"] if beside >= NARROW else [whole, " " * INDENT + verdict]
    yield from _legend(terms, max(0.0, cost.need - used), scale, style)
    where = _PHASES.get(cost.memory.peak.name, cost.memory.peak.name)
    if one.cards:
        low, high = sorted((cost.memory.reserved / GIB, cost.memory.nvidia_smi / GIB))
        shown = f"; nvidia-smi will show {low:.0f} to {high:.0f} GiB" if cost.fits else ""
        yield from style.said("", f"at the {where}{shown}")
    else:
        yield from style.said("", f"of main memory, at the {where}")
    if cost.host:
        yield from style.said("", f"and {gib(cost.host)} of main memory on each machine")


def _shade(at: int) -> str:
    return SHADES[min(at, len(SHADES) - 1)]


def _legend(terms: list[tuple[str, float]], slack: float, scale: float, style: TextStyle) -> Iterator[str]:
    """The terms that can be seen in the bar, in as many lines as they need."""
    shown = [(at, f"{name} {_size(size)}") for at, (name, size) in enumerate(terms) if size * scale >= 0.4]
    line, used = "", 0
    for at, text in [*shown, (-1, f"reserve {_size(slack)}")]:
        if used and used + len(text) + 4 > style.width - INDENT:
            yield " " * INDENT + line
            line, used = "", 0
        mark = style.paint(_shade(at), COLORS[at % len(COLORS)]) if at >= 0 else "·"
        line += f"{'  ' if used else ''}{mark} {text}"
        used += len(text) + 4
    yield " " * INDENT + line


def _size(size: float) -> str:
    return f"{size / GIB:.1f}"


_PHASES = {"forward": "end of the forward pass", "last": "backward pass of the last layer",
           "first": "backward pass of the first layer", "step": "optimizer's step"}  # fmt: skip


def _end(plan_view: PlanView) -> Iterator[str]:
    """What would run, what it takes together, and what the estimates stand on."""
    counted = Counter(status.state for status in plan_view.statuses.values())
    parts = [f"{counted[state]} {state}" for state in (NEW, CHANGED, BROKEN, RUNNING, DONE) if counted[state]]
    todo = [
        one for key, one in plan_view.forecasts.items() if key not in plan_view.statuses or plan_view.statuses[key].runs
    ]
    seconds, money = sum(one.seconds for one in todo), sum(one.money for one in todo)
    if parts and not any(status.runs for status in plan_view.statuses.values()):
        yield f"plan: nothing to do: {counted[DONE]} done"
    elif parts:
        yield f"plan: {', '.join(parts)}"
    if seconds:
        least = "" if all(one.seconds for one in todo) else "at least "
        yield f"training: {least}{duration(seconds)}" + (f", about {money:,.2f} USD" if money >= 0.005 else "")
    for card, runs in _stood_on(plan_view).items():
        if runs:
            place = f"{card} on this machine" if card else "this machine"
            yield f"estimates: calibrated from {runs} run{'s' * (runs != 1)} on {place}"
        else:
            yield f"estimates: not calibrated, no run on {card or 'this machine'} has been measured here yet"


def _stood_on(plan_view: PlanView) -> dict[str, int]:
    """By card ("" for this machine's processor), how many measured runs its estimates stand on."""
    found = plan_view.forecasts.items()
    return {plan_view.plan.stage(key).world.gpu: one.here.runs for key, one in found if one.cost}
