"""Layouts for a training stage: searches what the recipe leaves to `auto`, and keeps what it sets.

The method comes first, since methods give different results: full fine-tuning if GPU memory is more than twice what it
needs, LoRA if it fits, else QLoRA. Within a method the fastest layout that fits. A fused loss and a 4-bit base are tried
before anything is offloaded to main memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from functools import cached_property

from ftdsl.estimate import cpu, weights
from ftdsl.estimate.architecture import Architecture, NotModelledError
from ftdsl.estimate.fit import fit
from ftdsl.estimate.interval import weak
from ftdsl.estimate.memory import GIB
from ftdsl.estimate.setup import Setup
from ftdsl.estimate.time import time
from ftdsl.language.values import Term
from ftdsl.plan.count_rows import longest_row, mean_row
from ftdsl.plan.engine import Abilities, Layout
from ftdsl.plan.layout import architecture_of, beside, setup_of
from ftdsl.plan.measured import Here
from ftdsl.plan.plan import PlannedStage
from ftdsl.plan.search import LARGEST, Cost, Free, Ranking, plainness, search
from ftdsl.plan.world import World
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.recipe.settings import METHODS
from ftdsl.record import frozen, replace
from ftdsl.session import Files

ROOM = 0.95
"""Share of GPU memory to plan for, unless `budget.memory` is set."""

CARE = 1.05
"""Further room to leave: practitioners do not fill a GPU to its last GiB."""

UNTRIED = 1.1
"""The same for estimates that were never checked against measurements."""

_UNTRIED = ("parallelism", "experts", "fp8", "compiled layers", "rollouts", "beside the model", "DoRA", "training by",
            "the optimizer")  # fmt: skip


@frozen
class SearchResult:
    """The ranking of a stage's layouts. why: the reason for the method; unknown: why nothing can be estimated, else "";
    kernels: the fused loss that the search added, else ""."""

    ranking: Ranking = field(default_factory=lambda: Ranking(()))
    why: str = ""
    unknown: str = ""
    kernels: str = ""

    @property
    def best(self) -> Cost | None:
        return self.ranking.best


@frozen
class LayoutSearch:
    """The search for one stage. budget: bytes of GPU memory to plan for (0: 95 % of it); known: facts of the machine; files:
    the file system (None: the disk), for a model's config.json; careful: leave room beyond what is needed.
    """

    stage: Stage
    world: World
    recipe: Recipe
    precision: str
    engine: Abilities
    budget: float = 0.0
    here: Here = field(default_factory=Here)
    files: Files | None = None
    careful: bool = True

    def searched(self) -> SearchResult:
        """Search. Never raises: `unknown` says what is not modelled."""
        if not self.world.gpu:
            return SearchResult(unknown="there is no GPU")
        try:
            architecture = self.architecture()
            result = self._fitted(architecture)
            if self.evaluated <= 1 or (result.best and not result.kernels):
                return result
            less = self.evaluating_less._fitted(architecture)
            return less if not result.best or not less.kernels else result
        except NotModelledError as error:
            return SearchResult(unknown=str(error))

    def cost(self, layout: Layout, architecture: Architecture | None = None) -> Cost:
        """The cost of a layout at a fixed global batch. Raises: NotModelledError."""
        setup = self.setup(layout, architecture)
        if not self.world.gpu:
            return self._on_cpu(setup, layout)
        fitted, spent = fit(setup), time(setup)
        care = (
            1.0
            if not self.careful
            else UNTRIED
            if any(part in name for name in weak(setup) for part in _UNTRIED)
            else CARE
        )
        limit = self.budget or fitted.usable * ROOM
        host = host_bytes(setup) * self.world.processes_per_node / self.world.size
        there = self._declared_memory()
        need, step = fitted.needed * self.here.factors.memory, spent.step * self.here.factors.time
        tokens = spent.tokens_per_gpu / self.here.factors.time
        factor = self.here.factors.memory
        return Cost(
            layout, fitted.memory, need, limit, step, tokens, host, host * BUFFERS, there, care,
            fitted.certain, fitted.least * factor, fitted.low * factor, fitted.high * factor,
            self.budget or fitted.capacity, setup.seq_kind, spent.terms["generation"] * self.here.factors.time,
        )  # fmt: skip

    def _declared_memory(self) -> float:
        """`hardware.memory`: bytes of main memory of a node; 0 where nobody wrote it."""
        declared = self.stage.settings.get("hardware.memory")
        return float(getattr(declared, "number", declared) or 0.0)

    def setup(self, layout: Layout, architecture: Architecture | None = None) -> Setup:
        """The setup of a layout at a fixed global batch. Raises: NotModelledError."""
        if not self.world.data:
            raise NotModelledError("the processes cannot be divided")  # reported separately
        sizes = architecture or self.architecture()
        setup = setup_of(self.stage, self.world, layout, sizes, self.engine)
        if setup.mask and setup.attention == "flash":
            setup = replace(setup, document_len=self.packed_row)
        if self.stage.kind in ("grpo", "distill"):
            setup = replace(setup, **beside(self.stage, self.recipe, sizes, self.files, self.here.hub))
        ranks = layout.micro * self.world.data
        return replace(setup, accumulate=max(1, round((self.wanted or ranks) / ranks)))

    @cached_property
    def packed_row(self) -> int:
        """Tokens that scores reach in a pack of this stage's rows; 0 where the rows are not at hand."""
        return 2 * mean_row(self.stage, self.recipe, self.files or Files())

    def architecture(self) -> Architecture:
        """Sizes of the model the stage starts from. Raises: NotModelledError."""
        return architecture_of(self.stage, self.recipe, self.files, self.here.hub)

    def _on_cpu(self, setup: Setup, layout: Layout) -> Cost:
        """The cost on this machine's CPU; all processes share its main memory."""
        if setup.compute_bytes != 4 or setup.strategy not in ("single", "ddp"):
            raise NotModelledError("on a CPU only fp32 with equal processes is modelled")
        here = self.here
        spent = cpu.spent(setup, here.threads, here.processor)
        need = spent.resident_interval[1]
        tokens = setup.micro_batch * setup.seq_len * setup.accumulate / spent.step
        return Cost(
            layout,
            spent.memory,
            need,
            (self._declared_memory() or here.memory) / self.world.processes_per_node or need,
            spent.step,
            tokens,
            writing=spent.writing,
        )

    @property
    def evaluated(self) -> int:
        """Evaluation batch per GPU, if the recipe sets one; else 0."""
        batch = self.stage.settings.get("evaluate.batch") if self.stage.settings.get("evaluate.data") else 0
        return batch if isinstance(batch, int) else 0

    @property
    def evaluating_less(self) -> LayoutSearch:
        """The same with an evaluation batch of 1: evaluation memory does not decide the layout."""
        settings = self.stage.settings.with_values({"evaluate.batch": 1})
        return replace(self, stage=replace(self.stage, settings=settings))

    # --- what is open

    @property
    def wanted(self) -> int:
        """Sequences per optimizer step; 0 if the recipe does not set it."""
        get = self.stage.settings.get
        if isinstance(rows := get("batch.global"), int):
            return rows
        if isinstance(tokens := get("batch.tokens"), int | float):
            return max(1, round(tokens / int(get("max_len") or 2048)))
        micro, accumulate = get("batch.micro"), get("batch.accumulate")
        both = isinstance(micro, int) and isinstance(accumulate, int)
        return micro * accumulate * self.world.data if both else 0

    def free(self, methods: Sequence[tuple[str, int]]) -> Free:
        return Free(
            methods, (self.precision,), self._strategies(), self._offloads(), self._checkpointing(),
            self._micro(), self._allowed,
        )  # fmt: skip

    def _strategies(self) -> Sequence[str]:
        asked = self.stage.settings.name("parallel.strategy")
        if asked not in ("", "auto"):
            return (asked,)
        if self.world.elastic:
            return ("ddp",)  # ZeRO checkpoints need the same number of ranks (FT432)
        return ("ddp", "zero2", "zero3") if self.world.size > 1 else ("", "zero2", "zero3")

    def _offloads(self) -> Sequence[str]:
        asked = offloaded(self.stage)
        if not asked or "auto" in asked:
            return ("none", "optimizer", "params")
        return ("params",) if "params" in asked else ("optimizer",) if "optimizer" in asked else ("none",)

    def _checkpointing(self) -> Sequence[str]:
        asked = self.stage.settings.get("memory.checkpointing")
        name = {True: "full", False: "none"}.get(asked) if isinstance(asked, bool) else getattr(asked, "name", "auto")
        return ("none", "full") if name == "auto" else (str(name),)

    def _micro(self) -> Sequence[int]:
        get = self.stage.settings.get
        if isinstance(micro := get("batch.micro"), int):
            return (micro,)
        if not self.wanted or self.engine.one_sequence(self.stage):
            return (1,)
        share = self.wanted / max(1, self.world.data)
        if isinstance(accumulate := get("batch.accumulate"), int):
            return (max(1, round(share / accumulate)),)
        return [micro for micro in range(1, LARGEST + 1) if share % micro == 0] or (1,)

    def _allowed(self, layout: Layout) -> bool:
        """Whether to try a layout: one process needs DeepSpeed only to offload; ZeRO-3 offloads packed 4-bit weights only if the
        recipe sets it, as no working example is known (DeepSpeed#4410, transformers#24395).
        """
        settings = self.stage.settings
        open_ended = settings.name("parallel.strategy") in ("", "auto")
        plain = open_ended and self.world.size == 1 and layout.strategy and layout.offload == "none"
        moved = layout.bits and layout.strategy == "zero3" and layout.offload == "params"
        unasked = moved and "params" not in offloaded(self.stage)
        return not plain and not unasked and self.engine.possible(self.stage, layout, self.world)

    def _ranked(self, free: Free, architecture: Architecture) -> Ranking:
        """Rank the layouts. Adapters use plain data parallelism; DeepSpeed, which would train them in 16 bits, only if the base
        must be sharded.
        """

        def cost(layout: Layout) -> Cost:
            return self.cost(layout, architecture)

        if free.methods[0][0] == "lora" and len(free.strategies) > 1:
            plain = search(replace(free, strategies=free.strategies[:1]), cost)
            if plain.best:
                return Ranking((*plain.costs, *search(replace(free, strategies=free.strategies[1:]), cost).costs))
        return search(free, cost)

    # --- the method

    def _fitted(self, architecture: Architecture) -> SearchResult:
        settings = self.stage.settings
        bits = int(settings.get("quantize.bits") or 4) if settings.has("quantize") else 0
        method = next((name for name in METHODS if settings.has(name)), "")
        if method or bits or (self.stage.start and self.stage.start.adapters):
            why = "a quantised base needs adapters" if bits else ""
            return self._first_that_fits([(method or "lora", bits)], architecture, lambda _: why)
        full = self._ranked(self._kept_on_card([("full", 0)]), architecture)
        least = _least(full)
        if least and least.need * 2 <= least.limit:
            return SearchResult(
                full, f"full fine-tuning takes as little as {_gib(least.need)}, less than half of {_gib(least.limit)}"
            )
        whole = self._ranked(self._kept_on_card([("lora", 0)]), architecture)

        def reason(best: Cost | None) -> str:
            if best and best.layout.bits:
                return f"a 16-bit base would take {_gib(_on_card(whole))}"
            return "full fine-tuning would take more than half of the GPU's memory" if best else "nothing fits"

        return self._first_that_fits([("lora", 0), ("lora", 4)], architecture, reason)

    def _first_that_fits(
        self, methods: Sequence[tuple[str, int]], architecture: Architecture, why: Callable[[Cost | None], str]
    ) -> SearchResult:
        """The first method for which a layout fits: as the recipe sets it, then with a fused loss, then with offloading."""
        open_ended = self._offloads()
        kept = [name for name in open_ended if name == "none"]
        moved = [name for name in open_ended if name != "none"]
        tight = replace(self, careful=False)
        attempts = [*self._attempts(methods, kept, architecture), *tight._attempts(methods, kept, architecture)]
        # with the base in main memory the smaller one first: each step copies it to the GPU
        small_first = sorted(methods, key=lambda method: method[1] == 0)
        attempts += self._attempts(small_first, moved, architecture)
        attempts += tight._attempts(small_first, moved, architecture)
        tried: list[Cost] = []
        for layouts, free, kernels in attempts:
            ranking = layouts._ranked(free, architecture)
            if ranking.best:
                return SearchResult(Ranking((*ranking.costs, *tried)), why(ranking.best), kernels=kernels)
            # the nearest layout is shown as the recipe sets it
            tried += ranking.costs if layouts.careful and not kernels else []
        return SearchResult(Ranking(sorted(tried, key=_nearness)), why(None))

    def _attempts(
        self, methods: Sequence[tuple[str, int]], offloads: Sequence[str], architecture: Architecture
    ) -> list[tuple[LayoutSearch, Free, str]]:
        """Searches in their order: each method as the recipe sets it, and with a fused loss."""
        fused, kernels = self._with_fused_loss(architecture)
        attempts: list[tuple[LayoutSearch, Free, str]] = []
        for method in methods if offloads else ():
            free = replace(self.free([method]), offloads=offloads)
            if method[1] and "params" in offloads and self.world.size > 1 and len(free.strategies) > 1:
                # a 4-bit base in main memory needs FSDP, as in LLaMA-Factory's own example
                free = replace(free, strategies=[*free.strategies, "fsdp1"])
            attempts += [(self, free, "")] + ([(fused, free, kernels)] if fused else [])
        return attempts

    def _kept_on_card(self, methods: Sequence[tuple[str, int]]) -> Free:
        free = self.free(methods)
        return replace(free, offloads=["none"]) if "none" in free.offloads else free

    def _with_fused_loss(self, architecture: Architecture) -> tuple[LayoutSearch | None, str]:
        """The same with a fused loss, if the recipe leaves kernels open and the engine has one."""
        name = self.engine.fused_loss(self.stage, architecture.family)
        if not name or self.stage.settings.names("kernels"):
            return None, ""
        settings = self.stage.settings.with_values({"kernels": Term(name)})
        return replace(self, stage=replace(self.stage, settings=settings)), name


def _nearness(cost: Cost) -> tuple[float, ...]:
    """Sort key: nearest to fitting first; of equally near layouts the simplest."""
    return (cost.need // (NEAR * max(1.0, cost.limit)), *plainness(cost.layout))


NEAR = 0.05
"""Share of GPU memory by which a layout must be nearer to fitting to be shown before a simpler one."""


def _least(ranking: Ranking) -> Cost | None:
    """The layout without offloading that needs the least GPU memory."""
    fitting = [cost for cost in ranking.costs if cost.fits and cost.layout.offload == "none"]
    return min(fitting, key=lambda cost: cost.need, default=None)


def _on_card(ranking: Ranking) -> float:
    """Least bytes of GPU memory of all layouts without offloading."""
    return min((cost.need for cost in ranking.costs if cost.layout.offload == "none"), default=0.0)


OFFLOADED = {"optim": 16.0, "params": 18.0}
"""Bytes of main memory a trained parameter: DeepSpeedCPUAdam's fp32 copy, two moments and fp32 gradients; the 16-bit weights
too when parameters go along (deepspeed/runtime/zero/stage_1_and_2.py, stage3.py; https://arxiv.org/abs/2101.06840)."""

BUFFERS = 1.5
"""Of that, what to plan for: pinned and partitioned buffers come to half of it again by DeepSpeed's own estimate
(`additional_buffer_factor`, deepspeed/runtime/zero/stage3.py; 744 GB were too few for a model of 33B, published)."""


def host_bytes(setup: Setup) -> float:
    """Bytes of main memory for offloading, on all machines together."""
    if setup.offload == "none":
        return 0.0
    part = weights.share(replace(setup, tensor=1, pipeline=1, expert=1))
    frozen = weights.weight_bytes(setup, part) if setup.offload == "params" and setup.adapts else 0.0
    return weights.trainable(setup, part) * OFFLOADED[setup.offload] + frozen


def offloaded(stage: Stage) -> list[str]:
    """Names of what the recipe offloads."""
    return stage.settings.names("parallel.offload")


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


def fitting_row(stage: Stage, layouts: LayoutSearch, cost: Cost) -> int:
    """Tokens of the longest row of the local data if the stage fits with it, which may be far shorter than the limit; else 0."""
    limit = stage.settings.get("max_len")
    longest = longest_row(stage, layouts.recipe, layouts.files or Files())
    if not longest or not isinstance(limit, int) or longest >= limit or stage.settings.get("packing"):
        return 0
    shorter = replace(layouts, stage=replace(stage, settings=stage.settings.with_values({"max_len": longest})))
    return longest if shorter.cost(cost.layout).fits else 0


def layout_of(planned: PlannedStage) -> Layout:
    """The layout of a planned stage, from its settings."""
    settings = planned.stage.settings
    bits = int(settings.get("quantize.bits") or 4) if settings.has("quantize") else 0
    offload = offloaded(planned.stage)
    again = settings.get("memory.checkpointing")
    name = again.name if isinstance(again, Term) else "full" if again else "none"
    moved = "params" if "params" in offload else "optimizer" if "optimizer" in offload else "none"
    micro = planned.batch.micro if planned.batch else 1
    return Layout(planned.method, bits, planned.precision, planned.strategy, moved, name, micro)


def setup_as_planned(planned: PlannedStage, recipe: Recipe) -> Setup:
    """The setup of a planned stage. Raises: NotModelledError."""
    return LayoutSearch(planned.stage, planned.world, recipe, planned.precision, planned.engine).setup(
        layout_of(planned)
    )
