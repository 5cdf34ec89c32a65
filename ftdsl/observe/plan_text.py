"""A plan as text: for each stage its status, layout, a bar of memory by term, time, disk, money, alternatives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import field
from textwrap import wrap
from typing import TYPE_CHECKING

from ftdsl.observe import outlook
from ftdsl.observe.status import BROKEN, CHANGED, DONE, MARKS, NEW, RUNNING, Compared, StageStatus
from ftdsl.observe.text import duration, gib, number
from ftdsl.printable import printable
from ftdsl.record import frozen

if TYPE_CHECKING:
    from ftdsl.observe.outlook import StudyOutlook
    from ftdsl.plan.forecast import Forecast
    from ftdsl.plan.plan import Plan, PlannedStage
    from ftdsl.plan.search import Cost
    from ftdsl.plan.untrained import Footprint

GIB = 2.0**30
WIDTH = 48
"""Maximum width of the bar in cells."""

NARROW = 16
"""Width below which the bar gets a separate line."""

INDENT = 10
SHADES = "█▓▒░▚▞▤▥"
COLORS = ("34", "36", "32", "33", "35", "31", "94", "96")
STATES = {DONE: "2", CHANGED: "33", NEW: "32", BROKEN: "31", RUNNING: "36"}


@frozen
class PlanView:
    """A plan and what is shown with it, by stage. forecasts: of stages that train; footprints: of the others; statuses: of all;
    compared: measured against planned; extra: title by key of jobs without a stage (models from scratch);
    study: of a recipe that searches.
    """

    plan: Plan
    forecasts: Mapping[str, Forecast]
    footprints: Mapping[str, Footprint] = field(default_factory=dict)
    statuses: Mapping[str, StageStatus] = field(default_factory=dict)
    compared: Mapping[str, Compared] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    study: StudyOutlook | None = None


@frozen
class TextStyle:
    """Line width, and whether to use colours."""

    width: int = 100
    color: bool = False

    def paint(self, text: str, code: str) -> str:
        text = printable(text)
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and text else text

    def labelled(self, label: str, text: str) -> Iterator[str]:
        """A label and its text, wrapped to the width."""
        parts = wrap(printable(text), max(30, self.width - INDENT), break_on_hyphens=False, break_long_words=False) or [
            ""
        ]
        yield f"  {label:{INDENT - 2}}{parts[0]}"
        yield from (" " * INDENT + part for part in parts[1:])


def lines(plan_view: PlanView, *, width: int = 100, color: bool = False) -> Iterator[str]:
    """The whole plan. Stages equal to an earlier one refer to it."""
    style = TextStyle(width, color)
    before: dict[tuple[str, ...], str] = {}
    tall = False
    for at, key in enumerate((*plan_view.extra, *(stage.key for stage in plan_view.plan.stages))):
        body = [*_why(plan_view.statuses.get(key), style), *_body(key, plan_view, style)]
        if len(body) > 3 and (first := before.setdefault(tuple(body), key)) != key:
            body = [f"  all as {first}"]
        if at and (tall or len(body) > 1):
            yield ""
        yield _head(key, plan_view, style)
        yield from body
        tall = len(body) > 1
    if plan_view.study is not None:
        yield ""
        yield f"{style.paint('search', '1')}  {printable(outlook.head(plan_view.study))}"
        for label, text in outlook.lines(plan_view.study):
            yield from style.labelled(label, text)
    yield ""
    for text in _end(plan_view):
        yield from wrap(text, max(30, width), subsequent_indent="  ")


def _head(key: str, plan_view: PlanView, style: TextStyle) -> str:
    status = plan_view.statuses.get(key)
    planned = next((stage for stage in plan_view.plan.stages if stage.key == key), None)
    title = _title(planned) if planned else plan_view.extra[key]
    name = style.paint(key, "1")
    if status is None:
        return f"{name}  {title}".rstrip()
    state = f"done in {status.run}" if status.state == DONE else status.state
    head = f"{style.paint(MARKS[status.state], STATES[status.state])} {name}  {title}".rstrip()
    return f"{head}: {style.paint(state, STATES[status.state])}"


def _title(stage: PlannedStage) -> str:
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
        yield from style.labelled("because" if not at else "", reason)


def _body(key: str, plan_view: PlanView, style: TextStyle) -> Iterator[str]:
    status = plan_view.statuses.get(key)
    if key in plan_view.forecasts and status and not status.runs:
        if key in plan_view.compared:
            yield from style.labelled("took", _compared(plan_view.compared[key]))
    elif key in plan_view.forecasts:
        yield from _stage(plan_view.plan.stage(key), plan_view.forecasts[key], style)
    elif key in plan_view.footprints and not (status and not status.runs):
        yield from _footprint(plan_view.footprints[key], style)


def _compared(run: Compared) -> str:
    """Measured against planned. Where the rows were shorter than the limit, the plan is computed for the actual length."""
    short = run.limit and run.length < run.limit * 0.95
    row_length = f", for rows of {run.length} tokens as they came" if short else ""
    busy = f"; {run.wall:.3g} s including other load on the machine" if run.wall > 1.25 * run.step else ""
    return (
        f"{gib(run.memory)} and {run.step:.3g} s a step, measured; planned {gib(run.planned_memory)} "
        f"({_off(run.memory, run.planned_memory)}) and {run.planned_step:.3g} s ({_off(run.step, run.planned_step)})"
        f"{row_length}{busy}"
    )


def _off(measured: float, planned: float) -> str:
    """`+5%`: so much more than planned."""
    return f"{round(100 * (measured / planned - 1)):+d}%"


def _footprint(footprint: Footprint, style: TextStyle) -> Iterator[str]:
    parts = [f"{number(footprint.rows)} row{'s' * (footprint.rows != 1)}"] if footprint.rows is not None else []
    if footprint.memory:
        memory = "the GPU's memory" if footprint.card else "main memory"
        most = f"up to {gib(footprint.memory)} of {memory} for rows of {footprint.length} tokens"
        parts.append(most if footprint.length else f"about {gib(footprint.memory)} of {memory}")
    if footprint.disk:
        parts.append(f"writes about {_bytes(footprint.disk)}")
    if footprint.unknown:
        parts.append(footprint.unknown)
    if parts:
        yield from style.labelled("takes", ", ".join(parts))


def _bytes(size: float) -> str:
    return gib(size) if size >= 2**20 else f"{max(1, round(size / 1024))} KiB"


def _stage(stage: PlannedStage, forecast: Forecast, style: TextStyle) -> Iterator[str]:
    for equation in stage.equations:
        yield from style.labelled("batch", equation)
    cost = forecast.cost
    if cost is None:
        yield from style.labelled("memory", f"not estimated: {forecast.unknown}")
        yield from style.labelled(
            "steps", number(forecast.steps) if forecast.steps else f"not known yet: {forecast.steps_unknown}"
        )
        return
    yield from _memory(forecast, style)
    yield from _answers(stage, forecast, style)
    left = f"{number(forecast.steps - forecast.resumed)} of " if 0 < forecast.resumed < forecast.steps else ""
    known = f"{left}{number(forecast.steps)} step{'s' * (forecast.steps != 1)}: {duration(forecast.seconds)}"
    steps = known if forecast.steps else f"steps not known yet: {forecast.steps_unknown}"
    each = "per GPU" if stage.world.gpu else "per process" if stage.world.size > 1 else ""
    yield from style.labelled(
        "time", f"{cost.seconds:.3g} s a step, {f'{cost.tokens:,.0f} tokens/s {each}'.rstrip()}; {steps}"
    )
    yield from style.labelled("disk", f"{gib(forecast.disk)} of checkpoints, {gib(forecast.checkpoint)} each")
    if forecast.money:
        money = f"about {forecast.money:,.2f}" if forecast.money >= 0.005 else "less than 0.01"
        yield from style.labelled(
            "cost", f"{money} USD at {forecast.price:.2f} per GPU and hour ({forecast.priced_by})"
        )
    for choice in stage.choices:
        if choice.reported:
            yield from style.labelled("chosen", str(choice))
    for at, way in enumerate(forecast.ways, 1):
        yield from style.labelled(f"way {at}", f"{way} ({gib(way.cost.need)}, {way.cost.seconds:.3g} s a step)")
    if not cost.fits and not forecast.ways and not forecast.longest_row:
        yield from style.labelled("", "no single change makes it fit: use larger GPUs, or more of them" if stage.world.gpu else
                            "this machine has too little main memory for it")  # fmt: skip


def _answers(stage: PlannedStage, forecast: Forecast, style: TextStyle) -> Iterator[str]:
    """What a stage that trains on the model's own answers writes at each step, and what that takes."""
    cost = forecast.cost
    assert cost is not None
    setup = cost.memory.setup
    if not setup.rollout or stage.batch is None:
        return
    total, group = (
        stage.batch.total,
        int(stage.stage.settings.get("generations") or 1) if stage.stage.kind == "grpo" else 1,
    )
    each = f", {group} to each of {number(total // group)} prompts" if group > 1 else ""
    parts = [f"{number(total)} a step{each}, up to {number(setup.rollout)} tokens"]
    device = "on a GPU" if stage.world.gpu else "in a process"
    written = next((phase for phase in cost.memory.phases if phase.name == "generation"), None)
    if written:
        parts.append(f"{number(setup.micro_batch * setup.accumulate)} at once {device}, whose keys and values take "
                     f"{gib(written.terms['keys and values'])}")  # fmt: skip
        parts.append(f"at most {cost.writing:.3g} s of a step, if none ends early (an estimate)")
    elif setup.served:
        parts.append(
            f"vLLM keeps {gib(setup.served * setup.capacity)} of each GPU; its time is not estimated, nor in the step"
        )
    else:
        parts.append("written by a vLLM server, whose time is not estimated, nor in the step")
    yield from style.labelled("answers", "; ".join(parts))
    models = [
        (setup.references, "a reference" if setup.references == 1 else f"{setup.references} references"),
        (len(setup.teachers), "the teacher"),
        (len(setup.judges), "a judge" if len(setup.judges) == 1 else f"{len(setup.judges)} judges"),
    ]
    if present := [name for count, name in models if count]:
        size = cost.memory.peak.terms.get("frozen models", 0.0)
        yield from style.labelled("", f"beside it {' and '.join(present)}: {gib(size)}")


def _memory(forecast: Forecast, style: TextStyle) -> Iterator[str]:
    """The peak by term, largest first; the reserve of allocator and context is drawn as dots."""
    cost = forecast.cost
    assert cost is not None
    rows = "fits its rows" if forecast.longest_row else "does not fit"
    verdict = f"{gib(cost.need)} of {gib(cost.limit)}" + ("" if cost.need <= cost.limit else f"  {rows}")
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
    bar.insert(round(cost.limit * scale), "|")  # the GPU's limit
    whole = f"  {'memory':{INDENT - 2}}{''.join(bar)}"
    yield from [f"{whole}  {verdict}"] if beside >= NARROW else [whole, " " * INDENT + verdict]
    yield from _legend(terms, max(0.0, cost.need - used), scale, style)
    where = _PHASES.get(cost.memory.peak.name, cost.memory.peak.name)
    if forecast.cards:
        low, high = sorted((cost.memory.reserved / GIB, cost.memory.nvidia_smi / GIB))
        shown = f"; nvidia-smi will show {low:.0f} to {high:.0f} GiB" if cost.fits else ""
        yield from style.labelled("", f"at the {where}{shown}")
    else:
        yield from style.labelled("", f"of main memory, at the {where}")
    if forecast.longest_row:
        limit = number(cost.memory.setup.seq_len)
        longest = f"the longest here has {number(forecast.longest_row)}"
        yield from style.labelled("", f"rows of {limit} tokens would not fit; {longest}")
    if cost.host:
        host = _range(cost.host, cost.host_need)
        yield from style.labelled("", f"and {host} of main memory on each machine{_host_verdict(cost)}")


def _host_verdict(cost: Cost) -> str:
    return f", which has {gib(cost.host_limit)}: does not fit" if cost.crowds_host else ""


def _range(low: float, high: float) -> str:
    return gib(high) if high <= low else f"{gib(low).removesuffix(' GiB')} to {gib(high)}"


def _shade(at: int) -> str:
    return SHADES[min(at, len(SHADES) - 1)]


def _legend(terms: list[tuple[str, float]], slack: float, scale: float, style: TextStyle) -> Iterator[str]:
    """The terms visible in the bar, in as many lines as needed."""
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
           "first": "backward pass of the first layer", "step": "optimizer's step",
           "generation": "writing of answers"}  # fmt: skip


def _end(plan_view: PlanView) -> Iterator[str]:
    """The stages to run, their total cost, and the calibration of the estimates."""
    counted = Counter(status.state for status in plan_view.statuses.values())
    parts = [f"{counted[state]} {state}" for state in (NEW, CHANGED, BROKEN, RUNNING, DONE) if counted[state]]
    todo = [
        forecast
        for key, forecast in plan_view.forecasts.items()
        if key not in plan_view.statuses or plan_view.statuses[key].runs
    ]
    seconds, money = sum(forecast.seconds for forecast in todo), sum(forecast.money for forecast in todo)
    if parts and not any(status.runs for status in plan_view.statuses.values()):
        yield f"plan: nothing to do: {counted[DONE]} done"
    elif parts:
        yield f"plan: {', '.join(parts)}"
    if seconds:
        least = "" if all(forecast.seconds for forecast in todo) else "at least "
        yield f"training: {least}{duration(seconds)}" + (f", about {money:,.2f} USD" if money >= 0.005 else "")
    for card, runs in _runs_behind(plan_view).items():
        if runs:
            device = f"{card} on this machine" if card else "this machine"
            yield f"estimates: calibrated from {runs} run{'s' * (runs != 1)} on {device}"
        else:
            yield f"estimates: not calibrated, no run on {card or 'this machine'} measured yet"


def _runs_behind(plan_view: PlanView) -> dict[str, int]:
    """GPU ("" for this machine's processor) -> number of measured runs behind its estimates."""
    forecasts = plan_view.forecasts.items()
    return {plan_view.plan.stage(key).world.gpu: forecast.here.runs for key, forecast in forecasts if forecast.cost}
