"""Recipe to plan: what is `auto` gets a documented value, with its reason.

Until there is a memory model the choices are simple: micro-batch 1, no offload, no ZeRO, LoRA.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ftdsl import catalog
from ftdsl.language.values import Amount, Origin, Range, Term
from ftdsl.plan.batch import solve
from ftdsl.plan.plan import Choice, Plan, PlannedStage, World
from ftdsl.recipe.lineage import TRAINING
from ftdsl.recipe.models import BLOCKS
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.session import Session

DEFAULT_MAX_LEN = 2048
LEARNING_RATES = {"lora": 1e-4, "oft": 1e-4, "full": 1e-5, "freeze": 1e-5}
PREFERENCE_RATES = {"lora": 5e-6, "oft": 5e-6, "full": 5e-7, "freeze": 5e-7}
LORA_RANK = 8


def plan(recipe: Recipe, session: Session) -> Plan:
    """Fill in every `auto`, solve the batch equation, number the folders."""
    planned = [_stage(stage, at, recipe, session) for at, stage in enumerate(recipe.stages, 1)]
    return Plan(recipe, tuple(planned))


@dataclass
class _Chooser:
    """Collects choices for one stage: dotted key -> value, with the reason."""

    settings: Any
    choices: list[Choice] = field(default_factory=list)
    filled: dict[str, Any] = field(default_factory=dict)

    def set(self, key: str, value: Any, reason: str) -> None:
        self.filled[key] = value
        self.choices.append(Choice(key, _shown(value), reason))

    def get(self, key: str) -> Any:
        if key in self.filled:
            return self.filled[key]
        here = self.settings
        for word in key.split("."):
            here = getattr(here, word, None) if here is not None else None
        return here

    def unset(self, key: str) -> bool:
        """Nothing was said, or `auto`."""
        value = self.get(key)
        return value is None or (isinstance(value, Term) and value.name == "auto")


def _shown(value: Any) -> str:
    if isinstance(value, Term):
        return value.name
    if isinstance(value, Amount):
        return f"{value.number:g} {value.unit}"
    return "true" if value is True else "false" if value is False else str(value)


def world_of(stage: Stage) -> World:
    """Processes of a stage, from its `hardware` block; an elastic job is planned for its largest size."""
    hardware = getattr(stage.settings, "hardware", None)
    if hardware is None:
        return World()
    gpu = hardware.gpu.name if isinstance(hardware.gpu, Term) else (hardware.gpu or "none")
    nodes = hardware.nodes.high if isinstance(hardware.nodes, Range) else (hardware.nodes or 1)
    return World(hardware.count or 1, nodes, "" if gpu == "none" else gpu)


def _stage(stage: Stage, at: int, recipe: Recipe, session: Session) -> PlannedStage:
    folder = f"{at * 10:02d}-{stage.name}" + (f".{stage.run}" if stage.run else "")
    world = world_of(stage)
    if stage.kind not in TRAINING:
        return _light(stage, folder, world, recipe)
    chooser = _Chooser(stage.settings)
    method = _method(stage, chooser)
    strategy = _strategy(chooser, world)
    precision = _precision(stage, chooser, world)
    _model_words(stage, chooser, recipe)
    _learning_rate(stage, chooser, method)
    _small_words(chooser, world, recipe)
    batch = solve(stage, chooser, world, session)
    done = _filled(stage, chooser)
    return PlannedStage(done, folder, world, batch, method, strategy, precision, tuple(chooser.choices))


def _light(stage: Stage, folder: str, world: World, recipe: Recipe) -> PlannedStage:
    """Stages that do not train: one process unless the stage says otherwise."""
    chooser = _Chooser(stage.settings)
    if stage.kind in ("eval", "merge", "quantize"):
        if stage.kind != "eval" and not any(key.startswith("hardware.") for key in _own(stage)):
            world = World()
        _model_words(stage, chooser, recipe)
    if stage.kind == "eval":
        if chooser.unset("max_len"):
            chooser.set("max_len", _inherited_len(stage, recipe), "that of the stage it scores")
        if chooser.unset("batch"):
            chooser.set("batch", 1, "1 until there is a memory model")
    done = _filled(stage, chooser)
    return PlannedStage(done, folder, world, choices=tuple(chooser.choices))


def _own(stage: Stage) -> list[str]:
    return [key for key, origin in stage.origins.items() if origin.kind in ("stage", "profile", "set")]


def _inherited_len(stage: Stage, recipe: Recipe) -> int:
    for key in reversed([s.key for s in recipe.stages]):
        other = recipe.stage(key)
        if key in stage.needs and getattr(other.settings, "max_len", None):
            return int(other.settings.max_len)
    return DEFAULT_MAX_LEN


def _method(stage: Stage, chooser: _Chooser) -> str:
    for method in ("full", "freeze", "lora", "oft", "adapter", "prefix"):
        if getattr(stage.settings, method, None) is not None:
            if method == "lora":
                _lora(chooser)
            return method
    if stage.start and stage.start.adapters:
        return "lora"
    chooser.set("lora", "block", "no method given: LoRA until there is a memory model")
    _lora(chooser)
    return "lora"


def _lora(chooser: _Chooser) -> None:
    if chooser.unset("lora.rank"):
        chooser.set("lora.rank", LORA_RANK, "a common start")
    if chooser.unset("lora.alpha"):
        chooser.set("lora.alpha", 2 * chooser.get("lora.rank"), "2 * rank")
    if chooser.unset("lora.targets"):
        chooser.set("lora.targets", ["all"], "every linear layer")


def _strategy(chooser: _Chooser, world: World) -> str:
    asked = chooser.get("parallel.strategy")
    if isinstance(asked, Term) and asked.name != "auto":
        return asked.name
    name = "ddp" if world.size > 1 else "zero0"
    why = f"{world.size} processes, and no ZeRO until there is a memory model" if world.size > 1 else "one process"
    chooser.set("parallel.strategy", Term("ddp"), why)
    return "ddp" if name == "ddp" else ""


def _precision(stage: Stage, chooser: _Chooser, world: World) -> str:
    asked = chooser.get("precision")
    if isinstance(asked, Term) and asked.name != "auto":
        return asked.name
    if not world.gpu:
        name, why = "fp32", "on CPU"
    elif catalog.gpus()[world.gpu].bf16 if world.gpu in catalog.gpus() else True:
        name, why = "bf16", f"{world.gpu} has bf16"
    else:
        name, why = "fp16", f"{world.gpu} has no bf16"
    chooser.set("precision", Term(name), why)
    return name


def _model_words(stage: Stage, chooser: _Chooser, recipe: Recipe) -> None:
    """The chat template of the model's family, where the recipe is silent."""
    template = chooser.get("template")
    if template is not None and template != "auto" and not (isinstance(template, Term) and template.name == "auto"):
        return
    if stage.kind == "pretrain" or stage.start is None or not hasattr(stage.settings, "template"):
        return
    name, why = _family(stage.start.base)
    chooser.set("template", name, why)


def _family(base: Any) -> tuple[str, str]:
    if isinstance(base, Term):
        told = base.options.get("like") or base.options.get("id")
        like = told.options.get("id") if isinstance(told, Term) else told
        if isinstance(like, str) and (found := catalog.template_for_model(like)):
            return found, f"the template of {like}"
        architecture = base.options.get("architecture")
        if architecture is not None:
            known = {"qwen2": "qwen", "qwen3": "qwen3_nothink", "llama": "llama3"}
            return known.get(str(architecture), "default"), f"the template of {architecture}"
    return "default", "the model's family is not known"


def _learning_rate(stage: Stage, chooser: _Chooser, method: str) -> None:
    if chooser.unset("optim.lr"):
        rates = PREFERENCE_RATES if stage.kind in ("dpo", "kto") else LEARNING_RATES
        chooser.set("optim.lr", rates.get(method, 1e-4), f"a common rate for {stage.kind} with {method}")


def _small_words(chooser: _Chooser, world: World, recipe: Recipe) -> None:
    if chooser.unset("max_len"):
        chooser.set("max_len", DEFAULT_MAX_LEN, "the engine's own default")
    if chooser.unset("seed"):
        chooser.set("seed", recipe.seed, "the file's")
    if chooser.unset("memory.checkpointing"):
        name, why = ("full", "saves the most memory") if world.gpu else ("none", "on CPU")
        chooser.set("memory.checkpointing", Term(name), why)
    if chooser.unset("save.every"):
        chooser.set("save.every", Amount(500, "steps"), "the engine's own default")
    if chooser.unset("loader.workers"):
        chooser.set("loader.workers", 0, "the engine's own default")
    if chooser.unset("loader.tokenize"):
        chooser.set("loader.tokenize", 1, "the engine's own default")
    if chooser.unset("parallel.offload"):
        chooser.set("parallel.offload", None, "none until there is a memory model")
        chooser.filled.pop("parallel.offload")
    evaluates = chooser.get("evaluate.data")
    if evaluates and chooser.unset("evaluate.every"):
        chooser.set("evaluate.every", chooser.get("save.every"), "as save.every")


def _filled(stage: Stage, chooser: _Chooser) -> Stage:
    """The stage with the choices in its settings, each with its origin."""
    settings = _updated(stage.settings, chooser.filled)
    reasons = {choice.key: Origin("auto", "", choice.reason) for choice in chooser.choices}
    return replace(stage, settings=settings, origins={**stage.origins, **reasons})


def _updated(model: Any, filled: dict[str, Any]) -> Any:
    own = {key: value for key, value in filled.items() if "." not in key}
    if own.get("lora") == "block":
        own["lora"] = BLOCKS["lora"]()
    for block in dict.fromkeys(key.partition(".")[0] for key in filled if "." in key):
        inner = {key.partition(".")[2]: value for key, value in filled.items() if key.startswith(f"{block}.")}
        base = own.get(block, getattr(model, block, None))
        if base is not None:
            own[block] = _updated(base, inner)
    return model.model_copy(update=own)
