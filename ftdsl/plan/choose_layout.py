"""The layout of a stage: the best one becomes settings of the recipe, each with its reason; reports what does not fit."""

from __future__ import annotations

from collections.abc import Sequence

from ftdsl import catalog
from ftdsl.diagnostics import Severity
from ftdsl.diagnostics.model import Diagnostic
from ftdsl.estimate.architecture import NotModelledError
from ftdsl.estimate.fit import longest_that_fits
from ftdsl.estimate.memory import GIB
from ftdsl.language.values import Term
from ftdsl.plan import machine, measured
from ftdsl.plan.alternatives import SHORTEST, alternatives
from ftdsl.plan.chooser import Chooser
from ftdsl.plan.engine import Layout
from ftdsl.plan.layout import LORA_RANK
from ftdsl.plan.layout_search import LayoutSearch, SearchResult, fitting_row, layout_of
from ftdsl.plan.plan import Choice, PlannedStage
from ftdsl.plan.search import Cost
from ftdsl.recipe.recipe import Stage
from ftdsl.recipe.settings import METHODS
from ftdsl.record import replace
from ftdsl.session import Session
from ftdsl.source import Span


def choose_layout(stage: Stage, chooser: Chooser, layouts: LayoutSearch) -> tuple[str, str]:
    """Fill in the settings that determine memory and speed. Returns: method, strategy ("" for one process)."""
    searched = layouts.searched()
    best = searched.best or searched.ranking.nearest
    method = _method(stage, chooser, searched, best)
    strategy = _strategy(chooser, layouts, searched, best)
    if searched.kernels:
        chooser.set("kernels", Term(searched.kernels), "nothing fits that stores all logits")
    _offload(chooser, best)
    _checkpointing(chooser, layouts, searched, best, method)
    if best and layouts.wanted and chooser.unset("batch.micro") and chooser.unset("batch.accumulate"):
        chooser.set("batch.micro", best.layout.micro, _won(searched, best, "micro"))
    return method, strategy


def _method(stage: Stage, chooser: Chooser, searched: SearchResult, best: Cost | None) -> str:
    for method in METHODS:
        if stage.settings.has(method):
            if method == "lora":
                _lora(chooser)
            return method
    if stage.start and stage.start.adapters:
        return "lora"  # the last adapter is trained further
    method = best.layout.method if best else "lora"
    chooser.blocks.add(method)
    chooser.choices.append(
        Choice(method, "{ }", searched.why or f"no method is set, and memory is not estimated: {searched.unknown}")
    )
    if method == "lora":
        _lora(chooser)
    if best and best.layout.bits and not stage.settings.has("quantize"):
        chooser.blocks.add("quantize")
        chooser.set("quantize.bits", best.layout.bits, searched.why)
    return method


def _lora(chooser: Chooser) -> None:
    """Rank and scale of LoRA; other adapters, and a dynamic rank, keep the defaults of their library."""
    if chooser.settings.name("lora.variant") not in catalog.variants() and not chooser.get("lora.rank_budget"):
        if chooser.unset("lora.rank"):
            chooser.set("lora.rank", LORA_RANK, "a common start")
        if chooser.unset("lora.alpha"):
            chooser.set("lora.alpha", 2 * chooser.get("lora.rank"), "2 * rank")
    if chooser.unset("lora.targets"):
        chooser.set("lora.targets", ["all"], "every linear layer", reported=False)


def _strategy(chooser: Chooser, layouts: LayoutSearch, searched: SearchResult, best: Cost | None) -> str:
    asked = chooser.get("parallel.strategy")
    if isinstance(asked, Term) and asked.name != "auto":
        return asked.name
    several = layouts.world.size > 1
    if best and best.layout.strategy:
        chooser.set("parallel.strategy", Term(best.layout.strategy), _won(searched, best, "strategy"))
        return best.layout.strategy
    why = f"{layouts.world.size} processes; memory is not estimated: {searched.unknown}" if several else "one process"
    chooser.set("parallel.strategy", Term("ddp"), why, reported=several)
    return "ddp" if several else ""


def _offload(chooser: Chooser, best: Cost | None) -> None:
    items = chooser.settings.names("parallel.offload")
    if best is None or best.layout.offload == "none" or (items and "auto" not in items):
        return
    moved = ["optimizer"] + ["params"] * (best.layout.offload == "params")
    chooser.set("parallel.offload", [Term(name) for name in moved], "nothing fits without")


def _checkpointing(
    chooser: Chooser, layouts: LayoutSearch, searched: SearchResult, best: Cost | None, method: str
) -> None:
    if not chooser.unset("memory.checkpointing"):
        return
    if best:
        name, why = best.layout.checkpointing, _won(searched, best, "checkpointing")
    else:
        name, why = ("full", "saves the most memory") if layouts.world.gpu else ("none", "on CPU")
        if name == "full" and _never_checkpoints(layouts, method):
            name, why = "none", f"{layouts.engine.title} cannot checkpoint here"
    chooser.set("memory.checkpointing", Term(name), why, reported=bool(layouts.world.gpu))


def _never_checkpoints(layouts: LayoutSearch, method: str) -> bool:
    """Whether the engine can run the stage without recomputing, and not with it."""

    def possible(checkpointing: str) -> bool:
        layout = Layout(method, 0, layouts.precision, "", "none", checkpointing, 1)
        return layouts.engine.possible(layouts.stage, layout, layouts.world)

    return possible("none") and not possible("full")


def _won(searched: SearchResult, best: Cost, choice: str) -> str:
    """The reason for an option: the cost of the best layout with another one."""
    mine = getattr(best.layout, choice)
    other = next((cost for cost in searched.ranking.costs if getattr(cost.layout, choice) != mine), None)
    if not best.fits:
        return "comes nearest to fitting"
    if other is None:
        return f"fits in {_gib(best.need)}"
    name = (
        f"{choice} {getattr(other.layout, choice)}"
        if choice == "micro"
        else getattr(other.layout, choice) or "one process"
    )
    if not other.fits:
        return f"`{name}` would need {_gib(other.need)} of {_gib(other.limit)}"
    slower = other.seconds / best.seconds - 1
    return f"`{name}` is no faster" if slower < 0.02 else f"`{name}` would take {slower:.0%} longer"


def check_fit(planned: PlannedStage, layouts: LayoutSearch, session: Session) -> None:
    """A stage that certainly does not fit is an error with alternatives; one that probably does not, a warning with the range."""
    layouts = replace(layouts, stage=planned.stage)
    cost = cost_of(planned, layouts) if layouts.world.gpu else _cost_on_cpu(planned, layouts, session)
    if cost is None or cost.fits or fitting_row(planned.stage, layouts, cost):
        return
    stage = planned.stage
    terms = sorted(cost.memory.peak.terms.items(), key=lambda term: -term[1])[:3]
    label = "" if cost.crowds_host else ", ".join(f"{name} {_gib(size)}" for name, size in terms)
    severity = Severity.ERROR if cost.refused else Severity.WARNING
    text = _fit_text(stage, cost, layouts)
    help = _fit_help(layouts, cost) if layouts.world.gpu else "use a smaller model, or a machine with more main memory"
    session.sink.add(Diagnostic("FT701", text, _blamed_span(stage, cost), severity, label, (), help))


NEAR = 0.7
"""Share of main memory from which a CPU's estimate is corrected by this machine's runs, which takes longer to read."""


def _cost_on_cpu(planned: PlannedStage, layouts: LayoutSearch, session: Session) -> Cost | None:
    """The cost on this machine's CPU, or on one with `hardware.memory`; None where nothing is known of main memory."""
    memory = 0.0 if session.elsewhere else machine.main_memory(session)
    if planned.batch is None or not (memory or planned.stage.settings.get("hardware.memory")):
        return None
    try:
        cost = replace(layouts, here=measured.Here(memory=memory, hub=layouts.here.hub)).cost(layout_of(planned))
        if cost.need > NEAR * cost.limit:
            cost = replace(layouts, here=measured.here(session, layouts.recipe, "")).cost(layout_of(planned))
    except NotModelledError:
        return None
    return cost


def _fit_text(stage: Stage, cost: Cost, layouts: LayoutSearch) -> str:
    if cost.crowds_host:
        size = _gib(cost.host) if cost.refused else f"{cost.host / GIB:.1f} to {_gib(cost.host_need)}"
        return f"`{stage.name}` offloads {size} to main memory, and a machine has {_gib(cost.host_limit)}"
    length = int(stage.settings.get("max_len") or 0)
    if not layouts.world.gpu:
        processes = layouts.world.processes_per_node
        each = f" for each of {processes} processes; " if processes > 1 else "; "
        whose = "a machine" if stage.settings.get("hardware.memory") else "this machine"
        text = f"`{stage.name}` needs {_gib(cost.need)} of main memory at {length:,} tokens"
        return f"{text}{each}{whose} has {_gib(cost.limit * processes)}"
    bound = f"the budget is {_gib(cost.bound)}" if layouts.budget else f"a {layouts.world.gpu} has {_gib(cost.bound)}"
    if cost.certain > cost.bound:
        return f"`{stage.name}` needs at least {_gib(cost.certain)} per GPU, however short its rows are; {bound}"
    return f"`{stage.name}` needs {cost.low / GIB:.1f} to {_gib(cost.high)} per GPU at {length:,} tokens; {bound}"


def _fit_help(layouts: LayoutSearch, cost: Cost) -> str:
    """The first alternative, and the row length that fits."""
    ways = alternatives(layouts, cost.layout)
    parts = [str(ways[0])] if ways else ["use a larger GPU"]
    if not layouts.budget and not cost.crowds_host and cost.certain <= cost.bound:
        shorter = longest_that_fits(layouts.setup(cost.layout))
        parts += [f"rows of up to {shorter:,} tokens are likely to fit"] if shorter >= SHORTEST else []
    parts += [f"`ftc plan` shows {len(ways)} ways"] if len(ways) > 1 else []
    return "; ".join(parts)


def cost_of(planned: PlannedStage, layouts: LayoutSearch) -> Cost | None:
    """The cost of a planned stage; None without a GPU, or if it is not modelled."""
    if not layouts.world.gpu or planned.batch is None:
        return None
    try:
        return layouts.cost(layout_of(planned))
    except NotModelledError:
        return None


_BLAMED_KEYS: Sequence[str] = ("batch.micro", "max_len", "parallel.strategy", "full", "lora", "model")
_BLAMED_FOR_THE_MODEL: Sequence[str] = ("model", "full", "lora", "parallel.strategy")
"""What decides sizes that do not depend on rows: these terms."""
_FIXED = ("weights", "gradients", "whole gradients", "optimizer", "frozen models")


def _blamed_span(stage: Stage, cost: Cost) -> Span:
    if cost.crowds_host and "parallel.offload" in stage.spans:
        return stage.spans["parallel.offload"]
    if cost.memory.peak.name == "evaluation" and "evaluate.batch" in stage.spans:
        return stage.spans["evaluate.batch"]
    fixed = sum(cost.memory.peak.terms.get(name, 0.0) for name in _FIXED)
    model = fixed > cost.need / 2 or cost.certain > cost.bound > 0
    blamed = (*_BLAMED_FOR_THE_MODEL, *_BLAMED_KEYS) if model else _BLAMED_KEYS
    return next((stage.spans[key] for key in blamed if key in stage.spans), stage.span)


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"
