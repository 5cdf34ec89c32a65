"""Reduces one stage: replaces what a CPU cannot do, by the table in catalog/data/smoke.toml, and cuts sizes, by code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftdsl import catalog
from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.language.values import Amount, Range, Term
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.recipe.settings import Settings, shown
from ftdsl.smoke.report import Replacement

STEPS = 4
ROWS = 64
MAX_LEN = 1024
PACKED = 64
NEW_TOKENS = 8
HELD_OUT = 4
PROCESSES = 2
RANK = 8
BLOCK = 16

_UNUSED = "llamafactory.ddp_find_unused_parameters"
_GROUPS = {"quantize": "stage_quantize"}


class StageReducer:
    """The settings of one stage while they are reduced; every change is recorded."""

    def __init__(self, recipe: Recipe, stage: Stage) -> None:
        self.recipe, self.stage = recipe, stage
        self.values: dict[str, Any] = dict(stage.settings.values)
        self.blocks = set(stage.settings.blocks)
        self.replacements: list[Replacement] = []

    def settings(self) -> Settings:
        return Settings(self.stage.settings.kind, self.values, frozenset(self.blocks))

    # --- edits

    def get(self, key: str) -> Any:
        return self.settings().get(key)

    def set(self, key: str, value: Any, why: str) -> None:
        """Another value, also for a key that the author did not set, since the engine would use its default."""
        was = self.get(key)
        if was == value:
            return
        self.values[key] = value
        self.record(key, "(not set)" if was is None else shown(was), shown(value), why)

    def drop(self, key: str, why: str) -> None:
        if key in self.values:
            self.record(key, shown(self.values.pop(key)), "left out", why)

    def drop_block(self, block: str, why: str) -> None:
        written = [key for key in self.values if key.startswith(f"{block}.")]
        if written or block in self.blocks:
            self.record(block, "{ … }", "left out", why)
        for key in written:
            self.values.pop(key)
        self.blocks.discard(block)

    def cut(self, key: str, most: float, why: str) -> None:
        """At most so much; a smaller value stays."""
        value = self.get(key)
        number = value.number if isinstance(value, Amount) and value.unit == "count" else value
        if isinstance(number, bool) or not isinstance(number, int | float) or number > most:
            self.set(key, most, why)

    def record(self, key: str, was: str, now: str, why: str) -> None:
        spans = self.stage.spans
        span = spans.get(key) or spans.get(key.split(".")[0]) or self.stage.span
        self.replacements.append(Replacement(self.stage.key, key, was, now, why, self.recipe.location(span)))

    # --- by the table

    def by_table(self) -> None:
        """Every key that is dropped, or has values that need a GPU."""
        facts = catalog.smoke()
        for block in sorted(self.blocks | {key.partition(".")[0] for key in self.values if "." in key}):
            if block in facts["drop"]:
                self.drop_block(block, facts["drop"][block])
        for key in list(self.values):
            for name in _names(self.stage.kind, key):
                if name in facts["drop"]:
                    self.drop(key, facts["drop"][name])
                elif name in facts["members"]:
                    self._member(key, facts["members"][name])
        if (name := self.settings().name("template")) in facts["seeing"]["templates"]:
            self.record(
                "template", name, f"{name} without its parts for images and audio", "the toy model reads text only"
            )
        for key in facts["passthrough"]["drop"]:
            self.drop(f"llamafactory.{key}", facts["passthrough"]["why"])

    def _member(self, key: str, entry: dict[str, Any]) -> None:
        value = self.values.get(key)
        if isinstance(value, list | tuple):
            kept = [item for item in value if _name(item) in entry["cpu"] and _name(item) != "none"]
            if len(kept) < len(value):
                self.set(key, kept or [Term("none")], entry.get("why", ""))
            return
        if not isinstance(value, Term) or value.name in entry["cpu"]:
            return
        now = entry.get("gpu", {}).get(value.name, entry.get("else"))
        if now is not None:
            self.set(key, Term(now), entry["why"])

    # --- what the table leaves to code

    def reduce(self) -> None:
        """All reductions; later ones may depend on earlier ones."""
        self.by_table()
        kind = self.stage.kind
        if kind == "data":
            self._data()
        if kind in TRAINING:
            self._training()
        if kind == "eval":
            self._scoring()
        if kind in (*TRAINING, "eval", "merge"):
            self._machine()

    def _data(self) -> None:
        self.cut("limit", 4 * ROWS, "few rows")
        if self.get("sample") is not None:
            self.cut("sample", 4 * ROWS, "few rows")
        self.drop("tokens", "lengths are those of the real tokenizer")
        for part in ("holdout.eval", "holdout.test"):
            self._held_out(part)

    def _held_out(self, key: str) -> None:
        """Cut a count of rows to hold out; a share stays."""
        value = self.get(key)
        share = isinstance(value, Amount) and value.unit == "share"
        if value is not None and not share and (isinstance(value, Amount) or (_whole(value) and value >= 1)):
            self.cut(key, HELD_OUT, "few rows")

    def _training(self) -> None:
        self.set("duration", Amount(STEPS, "steps"), "a few steps")
        if self.stage.kind == "pretrain":
            self.cut("max_len", PACKED, "few rows: texts are concatenated and cut to this length")
        else:
            self.cut("max_len", MAX_LEN, "short rows")
        self.cut("limit", ROWS, "few rows")
        if self.get("batch.ramp"):
            self.set("batch.ramp", [Term("phase", {"until": Amount(2, "steps"), "micro": 1, "accumulate": 2}),
                                    Term("phase", {"micro": 2, "accumulate": 1})], "small batches")  # fmt: skip
            self.values.pop("batch.micro", None)
        else:
            self.set("batch.micro", 2, "small batches")
        self._saving()
        self.set("track.every", Amount(1, "steps"), "few steps")
        self.set("track.to", [Term("none")], "no trackers in a smoke run")
        self.set("track.plot", False, "no plots of a few steps")
        self._loader()
        self._schedule()
        self._layers()
        self._low_ranks()
        if self.stage.kind in ("ppo", "grpo", "distill"):
            self.cut("generate.max_new_tokens", NEW_TOKENS, "short answers")
        if self.stage.kind == "grpo":
            self.cut("generations", 2, "small groups")

    def _saving(self) -> None:
        half = Amount(STEPS // 2, "steps")
        if _name(self.get("save.every")) != "never":
            self.set("save.every", half, "saving is tested too")
        self._held_out("evaluate.data")
        if self.get("evaluate.data") is not None or self.get("evaluate.every") is not None:
            self.set("evaluate.every", half, "evaluation is tested too")

    def _loader(self) -> None:
        for key in ("loader.workers", "loader.tokenize"):
            if self.values.get(key) is not None:
                self.cut(key, 1, "what this machine has")
        if self.values.get("loader.streaming"):
            self.set("loader.streaming", False, "few rows")
            self.drop("loader.buffer", "few rows")

    def _schedule(self) -> None:
        """The same phases, each as short as the run."""
        schedule, warmup = self.get("optim.schedule"), self.get("optim.warmup")
        if isinstance(schedule, list | tuple):
            lengths = [1] * (len(schedule) - 1) + [max(1, STEPS - len(schedule) + 1)]
            phases = [_shorter(phase, length) for phase, length in zip(schedule, lengths, strict=True)]
            self.set("optim.schedule", phases, "as short as the run")
        elif isinstance(schedule, Term) and any(_steps(value) for value in schedule.options.values()):
            self.set("optim.schedule", _shorter(schedule, 1), "as short as the run")
        if isinstance(warmup, Amount) and warmup.unit == "steps" and warmup.number > 1:
            self.set("optim.warmup", Amount(1, "steps"), "as short as the run")

    def _layers(self) -> None:
        """A number of layers of the real model is one layer of the toy."""
        for key in ("freeze.layers", "lora.layers"):
            value = self.values.get(key)
            if isinstance(value, Term) and value.options.get("n", 2) > 1:
                self.set(key, Term(value.name, {"n": 1}), "the toy has two layers")

    def _low_ranks(self) -> None:
        """Ranks and blocks must fit into the toy's matrices."""
        init = self.get("lora.init")
        if isinstance(init, Term) and init.name == "pissa":
            self.cut("lora.rank", RANK, "the toy's matrices are small")
        if self.values.get("oft.block") not in (None, 8, 16, 32):
            self.set("oft.block", BLOCK, "the toy's matrices are small")
        if self.values.get("oft.rank") is not None:
            self.cut("oft.rank", RANK // 2, "the toy's matrices are small")
        if self.values.get("quantize.bits") not in (None, 4, 8):
            self.set("quantize.bits", 4, "a CPU supports 4 and 8")

    def _scoring(self) -> None:
        self.cut("limit", 2 * NEW_TOKENS, "few rows")
        self.cut("max_len", MAX_LEN, "short rows")
        self.cut("batch", 2, "small batches")
        self.cut("generate.max_new_tokens", NEW_TOKENS, "short answers")
        if self.get("generate.beams") is not None:
            self.cut("generate.beams", 2, "short answers")
        self._loader()

    def _machine(self) -> None:
        """No GPU, and at most two processes on one node."""
        self.set("hardware.gpu", Term("none"), "no GPU")
        count, nodes = self.get("hardware.count") or 1, self.get("hardware.nodes") or 1
        several = not isinstance(count, int) or count > 1 or nodes != 1
        split = self.stage.kind in TRAINING and several
        self.set("hardware.count", PROCESSES if split else 1, "what this machine has")
        if isinstance(nodes, Range) or nodes != 1:
            self.set("hardware.nodes", 1, "what this machine has")
        strategy = self.get("parallel.strategy")
        if isinstance(strategy, Term) and strategy.name == "ddp" and not split:
            self.set("parallel.strategy", Term("auto"), "one process")
        elif _name(strategy) == "ddp" != self.stage.settings.name("parallel.strategy"):
            self.set(_UNUSED, True, "ddp, unlike sharding, must know that some weights may not affect the loss")
        self._offload()

    def _offload(self) -> None:
        moved = self.settings().items("parallel.offload")
        if any(isinstance(item, Term) and item.options for item in moved):
            self.set("parallel.offload", [Term(_name(item)) for item in moved], "main memory instead of a disk")
        elif _name(self.get("parallel.strategy")) in ("ddp", "auto") and any(
            _name(i) not in ("none", "auto") for i in moved
        ):
            self.drop("parallel.offload", "nothing is sharded")


def _names(kind: str, key: str) -> Iterator[str]:
    """The names that the table may have for a key: of the kind, of all training stages, or of a block."""
    if "." in key:
        yield key
    else:
        own = _GROUPS.get(kind, kind)
        yield from dict.fromkeys(
            (f"{own}.{key}", f"train.{key}", f"merge.{key}" if kind == "quantize" else f"{own}.{key}")
        )


def _name(value: Any) -> str:
    return value.name if isinstance(value, Term) else str(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _steps(value: Any) -> bool:
    return isinstance(value, Amount) and value.unit == "steps"


def _shorter(term: Term, length: int) -> Term:
    options = {name: Amount(length, "steps") if _steps(value) else value for name, value in term.options.items()}
    return Term(term.name, options)
