"""Recipe to plan: every `auto` gets a documented value, with its reason.

The choices that determine memory and speed are searched (layout_search.py, choose_layout.py); the others are common starting
values and the engine's own defaults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ftdsl import catalog
from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.environments import Versions
from ftdsl.language.values import Amount, Origin, StageRef, Term
from ftdsl.plan import budget, choose_layout, machine, measured
from ftdsl.plan.batch import ramp_of, solve, whole_groups
from ftdsl.plan.chooser import Chooser
from ftdsl.plan.engine import UNKNOWN_FAMILY, Abilities, EngineOf
from ftdsl.plan.layout_search import LayoutSearch
from ftdsl.plan.model_sizes import hub_folder
from ftdsl.plan.plan import Choice, Plan, PlannedStage
from ftdsl.plan.world import World, check_world, world_of
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.record import replace
from ftdsl.session import Session
from ftdsl.source import Span

LEARNING_RATES = {"lora": 1e-4, "oft": 1e-4, "full": 1e-5, "freeze": 1e-5}
PREFERENCE_RATES = {"lora": 5e-6, "oft": 5e-6, "full": 5e-7, "freeze": 5e-7}


def plan(recipe: Recipe, session: Session, engine_of: EngineOf) -> Plan:
    """Fill in every `auto`, solve the batch equation, number the folders; each choice is reported as an info.

    engine_of: the abilities of a stage's engine: what it can run, and its own defaults.

    A stage with an earlier error is planned without diagnostics: they would be based on incomplete settings.
    """
    recipe, read = _on_this_machine(recipe, session)
    factors = _known(recipe, session)
    planned = []
    failed = session.sink.failed
    for at, stage in enumerate(recipe.stages, 1):
        sound = stage.sound and not stage.unknown
        stage_session = session if sound else Session(session.files, session.env)
        done = _stage(stage, at, recipe, engine_of(stage), stage_session, factors)
        planned.append(done)
        reported = tuple(str(choice) for choice in done.choices if choice.reported)
        if reported and not failed:
            session.sink.info("FT700", f"what `{stage.name}` leaves open", stage.span, notes=reported)
    decided = {stage.world.gpu for stage in planned if any(c.key in measured.DECIDES for c in stage.choices)}
    read |= {
        measured.variable_of(gpu): str(factors[gpu]) if factors[gpu].runs else "" for gpu in decided & factors.keys()
    }
    whole = Plan(recipe, tuple(planned), read)
    if not session.sink.failed:
        budget.check(whole, session)
    return whole


def _known(recipe: Recipe, session: Session) -> dict[str, measured.Factors]:
    """GPU that the recipe trains on -> correction factors from measured runs."""
    factors: dict[str, measured.Factors] = {}
    for stage in recipe.stages:
        gpu = world_of(stage).gpu if stage.kind in TRAINING else ""
        if gpu and gpu not in factors:
            factors[gpu] = measured.here(session, recipe, gpu).factors
            if factors[gpu].runs and not session.sink.failed:
                text = f"estimates for {gpu} are corrected by measurements: {factors[gpu]}"
                session.sink.info("FT700", text, stage.spans.get("hardware.gpu", stage.span))
    return factors


def _on_this_machine(recipe: Recipe, session: Session) -> tuple[Recipe, dict[str, str]]:
    """The recipe with every `gpu = auto` resolved, and what was read for it (variable -> text), which the lock keeps."""
    if not any(stage.settings.name("hardware.gpu") == "auto" for stage in recipe.stages):
        return recipe, {}
    gpus = machine.local_gpus(session)
    if gpus is None:
        session.sink.info("FT700", "`gpu = auto`: this machine has no GPU; planned for an unknown one", _auto(recipe))
        return recipe, {}
    stages = tuple(
        machine.named(stage, gpus) if stage.settings.name("hardware.gpu") == "auto" else stage
        for stage in recipe.stages
    )
    session.sink.info("FT700", f"`gpu = auto`: this machine has {gpus}", _auto(recipe))
    return replace(recipe, stages=stages), {machine.VARIABLE: str(gpus)}


def _auto(recipe: Recipe) -> Span:
    stage = next(stage for stage in recipe.stages if stage.settings.name("hardware.gpu") == "auto")
    return stage.spans.get("hardware.gpu", stage.span)


def folder_of(number: int, stage: Stage, width: int = 2) -> str:
    """`20-sft`, `20-sft.rank=8+lr=1e-4`. No commas, which separate paths for the engine, and no shell metacharacters. width: the
    digits of the number, the same in all of a recipe's folders, so that they sort by name as they run.
    """
    run = re.sub(r"[^A-Za-z0-9._=+-]", "-", stage.run.replace(",", "+"))
    return f"{number:0{width}d}-{stage.name}" + (f".{run}" if run else "")


def _stage(
    stage: Stage, at: int, recipe: Recipe, engine: Abilities, session: Session, factors: Mapping[str, measured.Factors]
) -> PlannedStage:
    folder = folder_of(at * 10, stage, max(2, len(str(10 * len(recipe.stages)))))
    chooser = Chooser(stage.settings)
    if (origin := stage.origins.get("engine")) and origin.kind == "auto":
        chooser.choices.append(Choice("engine", stage.settings.name("engine"), origin.reason))
    if size := machine.size_left_open(stage):
        chooser.set("hardware.gpu", *size)
    if stage.kind not in TRAINING:
        world = _untrained(stage, chooser, recipe, engine, session)
        return PlannedStage(_filled(stage, chooser), folder, world, engine, choices=tuple(chooser.choices))
    world = world_of(stage)
    check_world(stage, world, session)
    _engine_defaults(stage, chooser, recipe, engine.defaults(stage))
    ramp = ramp_of(stage, chooser, session)
    whole_groups(stage, chooser, world, BATCH if world.gpu else 1)
    if world.gpu:
        _practice(chooser, world)
    precision = _precision(chooser, world)
    measurements = measured.Here(factors.get(world.gpu, measured.Factors()), hub=hub_folder(session.env))
    budget_bytes = recipe.budget.get("memory", 0.0)
    layouts = LayoutSearch(
        _filled(stage, chooser), world, recipe, precision, engine, budget_bytes, measurements, session.files
    )
    method, strategy = choose_layout.choose_layout(stage, chooser, layouts)
    _template(stage, chooser, engine, recipe.versions_of(stage), session)
    _learning_rate(stage, chooser, method)
    batch = solve(stage, chooser, world, session)
    done = _filled(stage, chooser)
    planned = PlannedStage(
        done, folder, world, engine, batch, method, strategy, precision, tuple(chooser.choices), ramp
    )
    choose_layout.check_fit(planned, layouts, session)
    return planned


def _untrained(stage: Stage, chooser: Chooser, recipe: Recipe, engine: Abilities, session: Session) -> World:
    """Stages that do not train: merging, data work and scripts are one process; an eval uses the hardware it is given."""
    if stage.kind in ("eval", "merge", "quantize"):
        _template(stage, chooser, engine, recipe.versions_of(stage), session)
    if stage.kind != "eval":
        return World(1, 1, world_of(stage).gpu if stage.kind == "quantize" else "")
    if chooser.unset("max_len"):
        inherited = _inherited_len(stage, recipe) or engine.defaults(stage)["max_len"]
        chooser.set("max_len", inherited, "that of the stage it scores", reported=False)
    if chooser.unset("batch"):
        chooser.set("batch", 1, "1: evaluation memory is not planned yet")
    world = world_of(stage)
    _precision(chooser, world)
    return world


def _inherited_len(stage: Stage, recipe: Recipe) -> int | None:
    for other in reversed(recipe.stages):
        if other.key in stage.needs and isinstance(length := other.settings.get("max_len"), int):
            return length
    return None


def _precision(chooser: Chooser, world: World) -> str:
    setting = chooser.get("precision")
    if isinstance(setting, Term) and setting.name != "auto":
        return setting.name
    gpu = catalog.gpus().get(world.gpu)
    if not world.gpu:
        name, why = "fp32", "on CPU"
    elif gpu is None or gpu.bf16:
        name, why = "bf16", f"{world.gpu} has bf16"
    else:
        name, why = "fp16", f"{world.gpu} has no bf16"
    chooser.set("precision", Term(name), why, reported=bool(world.gpu))
    return name


def _template(stage: Stage, chooser: Chooser, engine: Abilities, versions: Versions, session: Session) -> None:
    """The chat template of the model's family, unless the recipe sets it."""
    if not chooser.unset("template") or stage.kind == "pretrain" or stage.start is None:
        return
    name, why = engine.template(stage.start.base, versions)
    if why == UNKNOWN_FAMILY:
        at = stage.spans.get("model", stage.span)
        help = "write `template = …`, the template that the model was trained with"
        session.sink.warning("FT517", f"the template of this model is not known; `{name}` is used", at, help=help)
    chooser.set("template", name, why)


def _learning_rate(stage: Stage, chooser: Chooser, method: str) -> None:
    if chooser.unset("optim.lr"):
        rates = PREFERENCE_RATES if stage.kind in ("dpo", "kto", "ppo", "grpo") else LEARNING_RATES
        chooser.set("optim.lr", rates.get(method, 1e-4), f"a common rate for {stage.kind} with {method}")


def _engine_defaults(stage: Stage, chooser: Chooser, recipe: Recipe, defaults: Mapping[str, Any]) -> None:
    """The engine's own defaults, written out; most of them are not reported."""
    own = "the engine's own default"
    if chooser.unset("duration"):
        chooser.set("duration", Amount(3, "epochs"), own)
    if chooser.unset("max_len"):
        chooser.set("max_len", defaults["max_len"], own)
    if chooser.unset("seed"):
        chooser.set("seed", recipe.seed, "the file's", reported=False)
    if chooser.unset("save.every"):
        chooser.set("save.every", defaults["save.every"], own, reported=False)
    for key in ("loader.workers", "loader.tokenize"):
        if chooser.unset(key):
            why = (
                own
                if key == "loader.tokenize" or defaults[key]
                else "rows are tokenised before; none is needed to collate"
            )
            chooser.set(key, defaults[key], why, reported=False)
    if (
        stage.kind != "ppo"
        and chooser.get("evaluate.data") is None
        and (held := _held_out(chooser.get("data"), recipe))
    ):
        chooser.set("evaluate.data", [held], f"held out by `{held.stage}`")
    if chooser.get("evaluate.data") and chooser.unset("evaluate.every"):
        every, why = chooser.get("save.every"), "as save.every"
        if getattr(every, "unit", "") == "time":
            every, why = defaults["evaluate.every"], own
        chooser.set("evaluate.every", every, why, reported=False)


BATCH = 16
"""Default sequences per step: recipes of LLaMA-Factory, Axolotl and TRL use 8 to 128."""

TOKENIZERS = 8
"""Processes that tokenise on a machine with GPUs, which has at least as many cores for each."""


def _practice(chooser: Chooser, world: World) -> None:
    """Common values where the engines' own defaults are for small machines."""
    sizes = ("batch.micro", "batch.accumulate", "batch.global", "batch.tokens")
    if all(chooser.get(key) is None for key in sizes) and chooser.get("loss") is None:
        # some losses are not averaged over accumulated micro-batches; their recipes must set the batch
        ranks = max(1, world.data)
        chooser.set("batch.global", -(-BATCH // ranks) * ranks, "a common start")
    if chooser.get("loader.tokenize") == 1 and chooser.settings.get("loader.tokenize") is None:
        chooser.set("loader.tokenize", TOKENIZERS, "a machine with GPUs has enough cores", reported=False)


def _held_out(data: Any, recipe: Recipe) -> StageRef | None:
    """The `eval` part of the single data stage that a stage trains on, if it has one."""
    if not isinstance(data, list | tuple) or len(data) != 1 or not isinstance(data[0], StageRef):
        return None
    stage = recipe.find(data[0].key)
    held = stage is not None and stage.settings.get("holdout.eval") is not None
    return StageRef(data[0].stage, "eval", data[0].run) if held else None


def _filled(stage: Stage, chooser: Chooser) -> Stage:
    """The stage with the choices in its settings, each with its origin."""
    settings = stage.settings.with_values(chooser.filled, frozenset(chooser.blocks))
    reasons = {choice.key: Origin("auto", "", choice.reason) for choice in chooser.choices}
    return replace(stage, settings=settings, origins={**stage.origins, **reasons})
