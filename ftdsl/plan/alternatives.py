"""Changes that make a stage fit: each is tried, and those that keep the most speed come first."""

from __future__ import annotations

from collections.abc import Iterator

from ftdsl.estimate.architecture import NotModelledError
from ftdsl.language.values import Term
from ftdsl.plan.engine import FSDP, ZERO, Layout
from ftdsl.plan.layout_search import LayoutSearch
from ftdsl.plan.search import Cost
from ftdsl.recipe.recipe import Stage
from ftdsl.record import frozen, replace

WAYS = 3
SHORTEST = 512
"""Tokens below which a shorter `max_len` is not offered."""


@frozen
class Alternative:
    """Edits that make a stage fit. edits: dotted keys of the stage with their new values as written (`parallel.strategy` ->
    `zero3`; "" opens the block); gives_up: the price; cost: of the changed stage.
    """

    edits: tuple[tuple[str, str], ...]
    gives_up: str
    cost: Cost

    def __str__(self) -> str:
        edits = ", ".join(f"{key} = {text}" if text else f"{key} {{ }}" for key, text in self.edits)
        return f"{edits}: {self.gives_up}"


@frozen
class _Trial:
    edits: tuple[tuple[str, str], ...]
    gives_up: str
    layout: Layout
    stage: Stage


def alternatives(layouts: LayoutSearch, layout: Layout) -> list[Alternative]:
    """At most three alternatives that fit; those with the same training results first."""
    kept: list[tuple[int, Alternative]] = []
    evaluated = layouts.evaluated
    if evaluated > 1 and (cost := layouts.evaluating_less.cost(layout)).fits:
        kept.append((FREE, Alternative((("evaluate.batch", "1"),), "evaluates in more steps", cost)))
    for rank, trial in (*_fused(layouts, layout), *_trials(layouts.stage, layout, layouts.world.size)):
        candidate = replace(layouts, stage=trial.stage)
        if not layouts.engine.possible(trial.stage, trial.layout, layouts.world):
            continue
        try:
            cost = candidate.cost(trial.layout)
        except NotModelledError:
            continue
        if cost.fits:
            kept.append((rank, Alternative(trial.edits, trial.gives_up, cost)))
    kept.sort(key=lambda item: (item[0], len(item[1].edits), -item[1].cost.tokens))
    return [way for _, way in _distinct(kept)][:WAYS]


def _distinct(kept: list[tuple[int, Alternative]]) -> Iterator[tuple[int, Alternative]]:
    """Without alternatives whose edits include those of an earlier one."""
    seen: list[set[tuple[str, str]]] = []
    for rank, way in kept:
        edits = set(way.edits)
        if not any(other <= edits for other in seen):
            seen.append(edits)
            yield rank, way


FREE, SAME, CLOSE, OTHER = range(4)
"""Training unchanged; the same training, slower; nearly the same; a different training."""


def _fused(layouts: LayoutSearch, layout: Layout) -> Iterator[tuple[int, _Trial]]:
    """A fused loss, which stores no logits: the same training, as fast."""
    try:
        family = layouts.architecture().family
    except NotModelledError:
        return
    name = layouts.engine.fused_loss(layouts.stage, family)
    if not name:
        return
    stage, edits, text = (
        _with(layouts.stage, {"kernels": Term(name)}),
        (("kernels", name),),
        "the loss stores no logits",
    )
    yield SAME, _Trial(edits, text, layout, stage)
    for rank, trial in _trials(stage, layout, layouts.world.size):
        yield rank, _Trial((*edits, *trial.edits), f"{text}; {trial.gives_up}", trial.layout, trial.stage)


def _trials(stage: Stage, layout: Layout, world: int) -> Iterator[tuple[int, _Trial]]:
    accumulate = _explicit_number(stage, "batch.accumulate")
    single = list(_slower(layout, world, accumulate))
    for edits, text, changed in single:
        yield SAME, _Trial(edits, text, changed, stage)
    for edits, text, changed in single:
        for more, also, both in _slower(changed, world, accumulate):
            if more[0][0] != edits[0][0]:
                yield SAME, _Trial((*edits, *more), f"{text}; {also}", both, stage)
    for edits, text, changed, lighter in _lighter(stage, layout):
        yield CLOSE, _Trial(edits, text, changed, lighter)
        for more, also, both in _slower(changed, world, accumulate):
            yield CLOSE, _Trial((*edits, *more), f"{text}; {also}", both, lighter)
    for edits, text, changed, other in _others(stage, layout):
        yield OTHER, _Trial(edits, text, changed, other)
        for more, also, both in _slower(changed, world, accumulate):
            yield OTHER, _Trial((*edits, *more), f"{text}; {also}", both, other)


_Edits = tuple[tuple[str, str], ...]


def _slower(layout: Layout, world: int, accumulate: int) -> Iterator[tuple[_Edits, str, Layout]]:
    """The same gradients, at the cost of time. accumulate: as the recipe sets it, 0 if it does not."""
    if layout.checkpointing == "none":
        yield (("memory.checkpointing", "full"),), "recomputes layers", replace(layout, checkpointing="full")
    micro = layout.micro
    while micro > 1:
        micro //= 2
        edits: _Edits = (("batch.micro", str(micro)),)
        if accumulate:  # keeps the global batch
            edits = (*edits, ("batch.accumulate", str(accumulate * layout.micro // micro)))
        yield edits, "smaller micro-batches", replace(layout, micro=micro)
    if world > 1:
        for name in ("zero2", "zero3"):
            if layout.strategy in ("ddp", "zero0", "zero1", "zero2") and name > layout.strategy:
                yield (("parallel.strategy", name),), "more communication between GPUs", replace(layout, strategy=name)
    yield from _offloaded(layout, world)


def _offloaded(layout: Layout, world: int) -> Iterator[tuple[_Edits, str, Layout]]:
    """Optimizer states, or states and weights, in main memory. Under FSDP also a whole 4-bit base (LLaMA-Factory's example of
    a 70B model on two GPUs of 24 GB: examples/extras/fsdp_qlora)."""
    moves = {"none": ("optimizer", "params"), "optimizer": ("params",)}.get(layout.offload, ())
    if layout.strategy not in ("", "ddp", *ZERO, *FSDP):
        return
    for moved in moves:
        strategy = "zero3" if moved == "params" or layout.strategy == "zero3" else "zero2"
        strategies = [layout.strategy] if layout.strategy in FSDP else [strategy]
        if moved == "params" and layout.bits and world > 1 and layout.strategy not in FSDP:
            strategies.append("fsdp1")
        if layout.strategy in FSDP and moved == "optimizer":
            continue
        for name in strategies:
            value = "[optimizer]" if moved == "optimizer" else "[optimizer, params]"
            edits: _Edits = (("parallel.offload", value),)
            if name != layout.strategy:
                edits = (("parallel.strategy", name), *edits)
            yield edits, "steps wait for main memory", replace(layout, strategy=name, offload=moved)


def _lighter(stage: Stage, layout: Layout) -> Iterator[tuple[_Edits, str, Layout, Stage]]:
    """Nearly the same training: 8-bit optimizer states, a 4-bit base."""
    if stage.settings.name("optim.name") in ("", "adamw") and layout.method == "full":
        other = _with(stage, {"optim.name": "adamw_8bit"})
        yield (("optim.name", "adamw_8bit"),), "optimizer states in 8 bits", layout, other
    if layout.method == "lora" and not layout.bits:
        yield (("quantize", ""),), "a 4-bit base (QLoRA)", replace(layout, bits=4), stage


def _others(stage: Stage, layout: Layout) -> Iterator[tuple[_Edits, str, Layout, Stage]]:
    """A different training: shorter rows, adapters instead of all weights."""
    if layout.method == "full":
        adapters = replace(layout, method="lora")
        yield (("full", "null"), ("lora", "")), "adapters instead of all weights", adapters, stage
        quantised = replace(adapters, bits=4)
        yield (("full", "null"), ("lora", ""), ("quantize", "")), "adapters on a 4-bit base", quantised, stage
    length = stage.settings.get("max_len")
    while isinstance(length, int) and (length := length // 2) >= SHORTEST:
        yield (("max_len", str(length)),), "truncates longer rows", layout, _with(stage, {"max_len": length})


def _explicit_number(stage: Stage, key: str) -> int:
    """A number that the recipe sets explicitly; 0 if it does not."""
    origin, number = stage.origins.get(key), stage.settings.get(key)
    return number if isinstance(number, int) and origin is not None and origin.kind not in ("auto", "default") else 0


def _with(stage: Stage, values: dict[str, object]) -> Stage:
    return replace(stage, settings=stage.settings.with_values(values))
