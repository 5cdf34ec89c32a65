"""A recipe made small enough for any machine: the same stages, hand-offs, formats and templates; toy models, few rows.

Every replacement is kept, with what stood there and why: a smoke run shows what it tried and what it did not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ftdsl.language.values import Amount, Secret, StageRef, Term
from ftdsl.plan import generated
from ftdsl.plan.choose import family
from ftdsl.recipe.lineage import TRAINING
from ftdsl.recipe.recipe import Lineage, Recipe, Stage, Where
from ftdsl.recipe.rules.data import SOURCES
from ftdsl.recipe.settings import Settings, shown
from ftdsl.recipe.shape import files_of, local_path, settings_of, shape_of
from ftdsl.record import changed, record
from ftdsl.session import Files

STEPS = 4
ROWS = 64
MAX_LEN = 256
NEW_TOKENS = 8
HIDDEN, LAYERS, HEADS, VOCAB = 64, 2, 4, 2048
PROCESSES = 2

_ARCHITECTURES = (("qwen3", "qwen3"), ("qwen", "qwen2"), ("mistral", "mistral"), ("gemma", "gemma2"))
_PLAIN_OPTIMIZERS = ("adamw", "adamw_torch", "sgd", "adafactor", "lion", "rmsprop", "adagrad")


@record
class Replacement:
    """What was put in place of what: `where` is the recipe's line, or "" for what nobody wrote."""

    stage: str
    key: str
    was: str
    now: str
    why: str
    where: str = ""

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        return f"{self.stage}{place}: {self.change}"

    @property
    def change(self) -> str:
        return f"{self.key} {self.was} -> {self.now}: {self.why}"

    def as_json(self) -> dict[str, Any]:
        """With the place apart, as a program wants it; both null for what nobody wrote."""
        file, _, line = self.where.rpartition(":")
        place = {"file": file or None, "line": int(line) if file else None}
        return {"stage": self.stage, "key": self.key, "was": self.was, "now": self.now, "why": self.why, **place}


def lines(replaced: Sequence[Replacement]) -> Iterator[str]:
    """Every replacement in words; what several stages share is said once."""
    stages: dict[tuple[str, str], list[str]] = {}
    for one in replaced:
        stages.setdefault((one.where, one.change), []).append(one.stage)
    for (where, change), names in stages.items():
        several = f"{names[0]} and {len(names) - 1} more" if len(names) > 3 else ", ".join(names)
        yield f"smoke: {several}{f' ({where})' if where else ''}: {change}"


@record
class Small:
    """The recipe in small, everything that was replaced, and files of made-up rows by their path in the run folder."""

    recipe: Recipe
    replaced: tuple[Replacement, ...]
    files: dict[str, bytes]


def smoke(recipe: Recipe, files: Files) -> Small:
    """Scripts of the author's never run; data that is not on this machine becomes rows of the declared shape."""
    made_up: dict[str, bytes] = {}
    scripts = {stage.key for stage in recipe.stages if stage.kind == "shell"}
    stages, made = [], []
    for stage in recipe.stages:
        if stage.key in scripts:
            made.append(
                Replacement(stage.key, "stage", "shell", "left out", "scripts never run", recipe.where(stage.span))
            )
            continue
        small = _Small(recipe, stage, scripts)
        small.data(files, made_up)
        stages.append(small.made())
        made += small.replacements
    return Small(changed(recipe, stages=tuple(stages), smoke=True), tuple(made), made_up)


class _Small:
    """One stage on its way down."""

    def __init__(self, recipe: Recipe, stage: Stage, scripts: set[str]) -> None:
        self.recipe, self.stage, self.scripts = recipe, stage, scripts
        self.values: dict[str, Any] = dict(stage.settings.values)
        self.blocks = set(stage.settings.blocks)
        self.replacements: list[Replacement] = []

    def made(self) -> Stage:
        kind = self.stage.kind
        start, result = self._lineage(self.stage.start), self._lineage(self.stage.result, told=False)
        if kind == "data":
            self._cut("limit", 4 * ROWS, "few rows")
        if kind in TRAINING:
            self._training()
        if kind == "eval":
            self._scoring()
        if kind in (*TRAINING, "eval", "merge"):
            self._machine()
            self.set("tokenizer.resize", True, "the toy tokenizer may lack words of the template", told=False)
        for key in ("to", "push", "model"):
            self.drop(key, "results of a smoke run stay in its folder", told=key != "model")
        for key in [key for key, value in self.values.items() if isinstance(value, Secret)]:
            self.drop(key, "no secrets in a smoke run")
        settings = Settings(self.stage.settings.kind, self.values, frozenset(self.blocks))
        needs = tuple(need for need in self.stage.needs if need not in self.scripts)
        return changed(self.stage, settings=settings, start=start, result=result, needs=needs)

    # --- edits

    def get(self, key: str) -> Any:
        return Settings(self.stage.settings.kind, self.values, frozenset(self.blocks)).get(key)

    def set(self, key: str, value: Any, why: str, *, told: bool = True) -> None:
        was = self.values.get(key)
        if was == value:
            return
        self.values[key] = value
        if told and was is not None:
            self._tell(key, was, shown(value), why)

    def drop(self, key: str, why: str, *, told: bool = True) -> None:
        if key in self.values:
            was = self.values.pop(key)
            if told:
                self._tell(key, was, "left out", why)

    def drop_block(self, block: str, why: str) -> None:
        written = [key for key in self.values if key.startswith(f"{block}.")]
        if written or block in self.blocks:
            self._tell(block, "{ … }", "left out", why)
        for key in written:
            self.values.pop(key)
        self.blocks.discard(block)

    def _tell(self, key: str, was: Any, now: str, why: str) -> None:
        span = self.stage.spans.get(key) or self.stage.spans.get(key.split(".")[0])
        said = was if isinstance(was, str) else shown(was)
        where = self.recipe.where(span) if span else ""
        self.replacements.append(Replacement(self.stage.key, key, said, now, why, where))

    def _cut(self, key: str, most: int, why: str) -> None:
        """At most so much; what is smaller stays."""
        value = self.get(key)
        if not isinstance(value, int | float) or value > most:
            self.set(key, most, why)

    # --- data

    def data(self, files: Files, made_up: dict[str, bytes]) -> None:
        """Sources that cannot be reached from here, each as a file of made-up rows."""
        for key in SOURCES:
            value = self.values.get(key)
            if isinstance(value, list):
                self.values[key] = [self._reached(key, item, files, made_up) for item in value]

    def _reached(self, key: str, item: Any, files: Files, made_up: dict[str, bytes]) -> Any:
        if not isinstance(item, Term):
            return item
        path = local_path(item, self.recipe.folder)
        if path is not None and files_of(path, self.recipe.folder, files):
            return item
        prepared = self.stage.kind == "data"
        settings = self.stage.settings if prepared else settings_of(item)
        kind = self.recipe.reader(self.stage) if prepared else self.stage.kind
        shape = shape_of(settings, None, kind)
        name = f"smoke/rows-{len(made_up) + 1}.jsonl"
        made_up[name] = generated.rows(shape)
        place = str(item.options.get("id") or item.options.get("path") or item.name)
        self._tell(key, place, f"{generated.COUNT} made-up {shape.format} rows", "it is not on this machine")
        return Term("file", {"path": generated.SCHEME + name, "format": Term(shape.format)})

    # --- models

    def _lineage(self, lineage: Lineage | None, *, told: bool = True) -> Lineage | None:
        if lineage is None:
            return None
        base = self._toy(lineage.base, told)
        adapters = tuple(one for one in lineage.adapters if isinstance(one, StageRef))
        if told and len(adapters) < len(lineage.adapters):
            self._tell("model", "an adapter from elsewhere", "left out", "it belongs to the real base")
        return Lineage(base, adapters)

    def _toy(self, base: Where, told: bool) -> Where:
        """The same architecture at toy size; results of stages stay what they are."""
        if isinstance(base, StageRef) and base.stage not in {key.partition("@")[0] for key in self.scripts}:
            return base
        if isinstance(base, Term) and base.name == "scratch" and base.options.get("like") is None:
            return base
        place = (
            str(base.options.get("id") or base.options.get("path") or base.name)
            if isinstance(base, Term)
            else base.stage
        )
        like = base.options.get("like") if isinstance(base, Term) else None
        name = f"{place} {like or ''}".lower()
        architecture = next((known for word, known in _ARCHITECTURES if word in name), "llama")
        if told:
            now = f"{architecture} of {LAYERS} layers, its tokenizer trained on the recipe's data"
            self._tell("model", place, now, "toy size")
            if self.get("template") in (None, "auto") and self.stage.kind != "pretrain":
                self.set("template", family(base, self.recipe.versions)[0], "", told=False)
        options = {"architecture": architecture, "hidden": HIDDEN, "layers": LAYERS, "heads": HEADS, "vocab": VOCAB}
        return Term("scratch", options)

    # --- stages

    def _training(self) -> None:
        self.set("duration", Amount(STEPS, "steps"), "a few steps")
        self._cut("max_len", MAX_LEN, "short rows")
        self._cut("limit", ROWS, "few rows")
        for key in ("batch.global", "batch.tokens", "batch.accumulate"):
            self.drop(key, "small batches", told=key != "batch.accumulate")
        self.set("batch.micro", 2, "small batches")
        self.set("save.every", Amount(STEPS // 2, "steps"), "saves are tried too")
        if self.get("evaluate.data") is not None:
            self.set("evaluate.every", Amount(STEPS // 2, "steps"), "evaluations are tried too", told=False)
        self.set("track.every", Amount(1, "steps"), "", told=False)
        self.set("track.to", [Term("none")], "no trackers in a smoke run")
        self.set("track.plot", False, "", told=False)
        self._optimizer()
        self._freeze()

    def _optimizer(self) -> None:
        name = self.get("optim.name")
        if isinstance(name, Term) and name.name not in _PLAIN_OPTIMIZERS:
            self.set("optim.name", Term("adamw_torch"), "not for CPU")
        schedule = self.get("optim.schedule")
        phased = isinstance(schedule, list | tuple) or (isinstance(schedule, Term) and schedule.options)
        if phased:
            self.set("optim.schedule", Term("cosine"), "its phases are longer than the run")
            self.drop("optim.min_lr", "belongs to the schedule")
        warmup = self.get("optim.warmup")
        if isinstance(warmup, Amount) and warmup.unit == "steps" and warmup.number:
            self.set("optim.warmup", Amount(1, "steps"), "longer than the run")

    def _freeze(self) -> None:
        """Layers and modules by number or name are those of the real model."""
        for key in ("freeze.layers", "lora.layers"):
            if self.values.get(key) is not None:
                self.set(key, Term("last", {"n": 1}), f"the toy has {LAYERS} layers")

    def _scoring(self) -> None:
        self._cut("limit", 2 * NEW_TOKENS, "few rows")
        self._cut("max_len", MAX_LEN, "short rows")
        self._cut("batch", 2, "small batches")
        self._cut("generate.max_new_tokens", NEW_TOKENS, "short answers")

    def _machine(self) -> None:
        """No card, at most two processes on one node, and nothing only a card can do."""
        self.set("hardware.gpu", Term("none"), "no card")
        self.drop("hardware.devices", "no card")
        count, nodes = self.get("hardware.count") or 1, self.get("hardware.nodes") or 1
        several = not isinstance(count, int) or count > 1 or nodes != 1
        split = self.stage.kind in TRAINING and several
        self.set("hardware.count", PROCESSES if split else 1, "what this machine has")
        self.set("hardware.nodes", 1, "what this machine has")
        for block, why in (
            ("launch", "one machine"),
            ("quantize", "4 and 8 bits need a card's library"),
            ("budget", ""),
        ):
            self.drop_block(block, why)
        for key in _on_cards_only(self.values):
            self.drop(key, "not for CPU")
        self._strategy(split)
        if self.get("precision") is not None:
            self.set("precision", Term("fp32"), "CPU")

    def _strategy(self, split: bool) -> None:
        strategy = self.get("parallel.strategy")
        name = strategy.name if isinstance(strategy, Term) else ""
        if name and name not in ("auto", "ddp", "zero0", "zero1", "zero2", "zero3"):
            self.set("parallel.strategy", Term("ddp" if split else "auto"), "CPU")
        for key in ("tensor", "pipeline", "context", "expert", "data", "replicate"):
            self.drop(f"parallel.{key}", "what this machine has")


def _on_cards_only(values: dict[str, Any]) -> Iterator[str]:
    for key in ("attention", "kernels", "compile", "tf32", "memory.offload_activations", "memory.empty_cache"):
        value = values.get(key)
        name = value.name if isinstance(value, Term) else value
        if value is not None and name not in ("auto", "eager", "sdpa", "none", False):
            yield key
