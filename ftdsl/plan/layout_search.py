"""Layouts for a training stage: what the recipe leaves to `auto` is searched, what it fixes is respected.

Method first, by the handbook's matrix, since methods are not each other's equals: full fine-tuning when the cards have more
than twice what it needs, LoRA when it fits, QLoRA when only that does. Within a method the fastest layout that fits. Before
anything is moved to main memory, a fused loss is tried, and a base in 4 bits.
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
from ftdsl.plan.count_rows import mean_row
from ftdsl.plan.engine import Abilities, Layout
from ftdsl.plan.layout import architecture_of, setup_of
from ftdsl.plan.measured import Here
from ftdsl.plan.plan import PlannedStage
from ftdsl.plan.search import LARGEST, Cost, Free, Ranking, plainness, search
from ftdsl.plan.world import World
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.recipe.settings import METHODS
from ftdsl.record import frozen, replace
from ftdsl.session import Files

ROOM = 0.95
"""The part of what a card offers that is planned for, unless `budget.memory` says otherwise."""

CARE = 1.05
"""Room that is left besides: a card filled to its last GiB is nothing that a practitioner chooses."""

UNTRIED = 1.1
"""The same where the estimate was held to no measurement, so that nothing is chosen on a guess."""

_UNTRIED = ("parallelism", "experts", "fp8", "compiled layers", "rollouts", "beside the model", "DoRA", "training by",
            "the optimizer")  # fmt: skip


@frozen
class SearchResult:
    """The ranking of a stage's layouts. `why`: why that method; `unknown`: why nothing could be estimated, else ""; `kernels`:
    the fused loss that all of them have, which the recipe does not ask for."""

    ranking: Ranking = field(default_factory=lambda: Ranking(()))
    why: str = ""
    unknown: str = ""
    kernels: str = ""

    @property
    def best(self) -> Cost | None:
        return self.ranking.best


@frozen
class LayoutSearch:
    """One stage, its processes, its precision, its engine, the bytes of a card that may be planned for (0: 95 % of it), what is
    known of the machine, and the files beside the recipe (None: the disk's), where a model's config.json may lie. careful: room
    is left besides what is needed.
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
        """Never raises: what is not modelled is said in `unknown`."""
        if not self.world.gpu:
            return SearchResult(unknown="there is no card")
        try:
            architecture = self.architecture()
            found = self._fitted(architecture)
            if self.evaluated <= 1 or (found.best and not found.kernels):
                return found
            less = self.evaluating_less._fitted(architecture)
            return less if not found.best or not less.kernels else found
        except NotModelledError as error:
            return SearchResult(unknown=str(error))

    def cost(self, layout: Layout, architecture: Architecture | None = None) -> Cost:
        """What a layout costs, for the same global batch whatever the micro-batch. Raises: NotModelledError."""
        setup = self.setup(layout, architecture)
        if not self.world.gpu:
            return self._on_cpu(setup, layout)
        found, spent = fit(setup), time(setup)
        care = (
            1.0
            if not self.careful
            else UNTRIED
            if any(part in name for name in weak(setup) for part in _UNTRIED)
            else CARE
        )
        limit = self.budget or found.usable * ROOM
        host = host_bytes(setup) * self.world.processes_per_node / self.world.size
        there = self.stage.settings.get("hardware.memory")
        there = float(getattr(there, "number", there) or 0.0)
        need, step = found.needed * self.here.factors.memory, spent.step * self.here.factors.time
        tokens = spent.tokens_per_gpu / self.here.factors.time
        factor = self.here.factors.memory
        return Cost(
            layout, found.memory, need, limit, step, tokens, host, there, care,
            found.certain, found.least * factor, found.low * factor, found.high * factor,
            self.budget or found.capacity, setup.seq_kind,
        )  # fmt: skip

    def setup(self, layout: Layout, architecture: Architecture | None = None) -> Setup:
        """The set-up of a layout, for the same global batch whatever the micro-batch. Raises: NotModelledError."""
        if not self.world.data:
            raise NotModelledError("the processes do not divide")  # which is an error of its own
        sizes = architecture or self.architecture()
        setup = setup_of(self.stage, self.world, layout, sizes, self.engine)
        if setup.mask and setup.attention == "flash":
            setup = replace(setup, document_len=self.packed_row)
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
        """Of a process on this machine, whose main memory the processes share."""
        if setup.compute_bytes != 4 or setup.strategy not in ("single", "ddp"):
            raise NotModelledError("on a CPU only fp32 on one process or several equal ones is modelled")
        here = self.here
        spent = cpu.spent(setup, here.threads, here.processor)
        need = spent.resident_interval[1]
        tokens = setup.micro_batch * setup.seq_len * setup.accumulate / spent.step
        return Cost(layout, spent.memory, need, here.memory / self.world.processes_per_node or need, spent.step, tokens)

    @property
    def evaluated(self) -> int:
        """Sequences of one evaluation on one card, where the recipe says so; 0 where it does not evaluate or leaves it open."""
        batch = self.stage.settings.get("evaluate.batch") if self.stage.settings.get("evaluate.data") else 0
        return batch if isinstance(batch, int) else 0

    @property
    def evaluating_less(self) -> LayoutSearch:
        """The same with evaluations of one sequence: what an evaluation needs too much is no reason for another layout."""
        settings = self.stage.settings.with_values({"evaluate.batch": 1})
        return replace(self, stage=replace(self.stage, settings=settings))

    # --- what is open

    @property
    def wanted(self) -> int:
        """Sequences of one optimizer step, 0 when the recipe does not say."""
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
            return ("ddp",)  # checkpoints of ZeRO are of one number of ranks (FT432)
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
        """What is possible; one process needs DeepSpeed only to offload; and packed 4-bit weights are not moved off the card by
        ZeRO-3 unasked, which nobody shows at work (DeepSpeed#4410, transformers#24395).
        """
        settings = self.stage.settings
        open_ended = settings.name("parallel.strategy") in ("", "auto")
        plain = open_ended and self.world.size == 1 and layout.strategy and layout.offload == "none"
        moved = layout.bits and layout.strategy == "zero3" and layout.offload == "params"
        unasked = moved and "params" not in offloaded(self.stage)
        return not plain and not unasked and self.engine.possible(self.stage, layout, self.world)

    def _ranked(self, free: Free, architecture: Architecture) -> Ranking:
        """Adapters are small enough for plain data parallelism: DeepSpeed, which would train them in 16 bits, only where
        the base must be sharded.
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
            why = "a quantised base is trained by adapters" if bits else ""
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
            return "full fine-tuning would take more than half of the card" if best else "nothing fits"

        return self._first_that_fits([("lora", 0), ("lora", 4)], architecture, reason)

    def _first_that_fits(
        self, methods: Sequence[tuple[str, int]], architecture: Architecture, why: Callable[[Cost | None], str]
    ) -> SearchResult:
        """The first of the methods for which something fits: as the recipe has it, then with a fused loss, then offloaded."""
        open_ended = self._offloads()
        kept = [name for name in open_ended if name == "none"]
        moved = [name for name in open_ended if name != "none"]
        tight = replace(self, careful=False)
        attempts = [*self._attempts(methods, kept, architecture), *tight._attempts(methods, kept, architecture)]
        # of bases in main memory the smaller one first: it travels to the card in each step
        small_first = sorted(methods, key=lambda method: method[1] == 0)
        attempts += self._attempts(small_first, moved, architecture)
        attempts += tight._attempts(small_first, moved, architecture)
        tried: list[Cost] = []
        for layouts, free, kernels in attempts:
            ranking = layouts._ranked(free, architecture)
            if ranking.best:
                return SearchResult(Ranking((*ranking.costs, *tried)), why(ranking.best), kernels=kernels)
            # what comes nearest is shown as the recipe has it
            tried += ranking.costs if layouts.careful and not kernels else []
        return SearchResult(Ranking(sorted(tried, key=_nearness)), why(None))

    def _attempts(
        self, methods: Sequence[tuple[str, int]], offloads: Sequence[str], architecture: Architecture
    ) -> list[tuple[LayoutSearch, Free, str]]:
        """What is searched, in this order: each method as the recipe has it, and with a fused loss."""
        fused, kernels = self._with_fused_loss(architecture)
        found: list[tuple[LayoutSearch, Free, str]] = []
        for method in methods if offloads else ():
            free = replace(self.free([method]), offloads=offloads)
            if method[1] and "params" in offloads and self.world.size > 1 and len(free.strategies) > 1:
                # a 4-bit base goes to main memory under FSDP, as LLaMA-Factory's own example has it
                free = replace(free, strategies=[*free.strategies, "fsdp1"])
            found += [(self, free, "")] + ([(fused, free, kernels)] if fused else [])
        return found

    def _kept_on_card(self, methods: Sequence[tuple[str, int]]) -> Free:
        free = self.free(methods)
        return replace(free, offloads=["none"]) if "none" in free.offloads else free

    def _with_fused_loss(self, architecture: Architecture) -> tuple[LayoutSearch | None, str]:
        """The same with a loss that holds no logits, where the recipe leaves kernels open and the engine has one."""
        name = self.engine.fused_loss(self.stage, architecture.family)
        if not name or self.stage.settings.names("kernels"):
            return None, ""
        settings = self.stage.settings.with_values({"kernels": Term(name)})
        return replace(self, stage=replace(self.stage, settings=settings)), name


def _nearness(cost: Cost) -> tuple[float, ...]:
    """What comes nearest to fitting first; of layouts as near as makes no difference, the plainest."""
    return (cost.need // (NEAR * max(1.0, cost.limit)), *plainness(cost.layout))


NEAR = 0.05
"""The part of a card by which one layout must be nearer to fitting to be shown before a plainer one."""


def _least(ranking: Ranking) -> Cost | None:
    """The layout that fits in the least memory of the card, nothing offloaded."""
    fitting = [cost for cost in ranking.costs if cost.fits and cost.layout.offload == "none"]
    return min(fitting, key=lambda cost: cost.need, default=None)


def _on_card(ranking: Ranking) -> float:
    """Bytes of the card that the least of the layouts needs which offload nothing."""
    return min((cost.need for cost in ranking.costs if cost.layout.offload == "none"), default=0.0)


OFFLOADED = {"optim": 16.0, "params": 18.0}
"""Bytes of main memory a trained parameter: DeepSpeedCPUAdam's fp32 copy, two moments and fp32 gradients; the 16-bit weights
too when parameters go along (deepspeed/runtime/zero/stage_1_and_2.py, stage3.py; https://arxiv.org/abs/2101.06840)."""


def host_bytes(setup: Setup) -> float:
    """Bytes of main memory that offloading takes, all machines together."""
    if setup.offload == "none":
        return 0.0
    part = weights.share(replace(setup, tensor=1, pipeline=1, expert=1))
    frozen = weights.weight_bytes(setup, part) if setup.offload == "params" and setup.adapts else 0.0
    return weights.trainable(setup, part) * OFFLOADED[setup.offload] + frozen


def offloaded(stage: Stage) -> list[str]:
    """What the recipe moves to main memory, by name."""
    return stage.settings.names("parallel.offload")


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


def layout_of(planned: PlannedStage) -> Layout:
    """The layout a planned stage has, read back from its settings."""
    settings = planned.stage.settings
    bits = int(settings.get("quantize.bits") or 4) if settings.has("quantize") else 0
    offload = offloaded(planned.stage)
    again = settings.get("memory.checkpointing")
    name = again.name if isinstance(again, Term) else "full" if again else "none"
    moved = "params" if "params" in offload else "optimizer" if "optimizer" in offload else "none"
    micro = planned.batch.micro if planned.batch else 1
    return Layout(planned.method, bits, planned.precision, planned.strategy, moved, name, micro)


def setup_as_planned(planned: PlannedStage, recipe: Recipe) -> Setup:
    """The set-up a planned stage has. Raises: NotModelledError."""
    return LayoutSearch(planned.stage, planned.world, recipe, planned.precision, planned.engine).setup(
        layout_of(planned)
    )
