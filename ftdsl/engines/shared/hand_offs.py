"""What one engine makes and another cannot read: reward models, and adapters that need a newer PEFT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftdsl import catalog
from ftdsl.engines.shared.lint_view import bottom
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import StageRef, Term
from ftdsl.lint import facts
from ftdsl.recipe.recipe import Stage

FUSED_EXPERTS = (0, 19)
"""The version of PEFT from which adapters of fused experts have their present form; files of 0.18 differ (run)."""


def check(context: StageContext) -> None:
    """Each in order; errors go to the session's sink."""
    reward_models(context)
    fused_experts(context)


def reward_models(context: StageContext) -> None:
    """A reward model is a classifier with one output in TRL (trl/trainer/reward_trainer.py), and a model with a value head in
    LLaMA-Factory (model/model_utils/valuehead.py): neither loads the other's."""
    for key, value in _judges(context):
        maker = context.plan.stage(value.key)
        if maker.stage.kind == "reward" and maker.engine.name != context.engine.name:
            why = f"`{maker.stage.name}` is made by {maker.engine.title}, whose reward models {context.engine.title} cannot load"
            help = f"write `engine = {context.engine.name}` in `{maker.stage.name}`"
            context.refuse(key, why, help)


def _judges(context: StageContext) -> Iterator[tuple[str, StageRef]]:
    if isinstance(reward := context.get("reward"), StageRef):
        yield "reward", reward
    rewards: Any = context.get("rewards")
    for item in rewards if isinstance(rewards, list | tuple) else ():
        if isinstance(item, Term) and item.name == "judge" and isinstance(model := item.options.get("model"), StageRef):
            yield "rewards", model


def fused_experts(context: StageContext) -> None:
    """An adapter of fused experts needs PEFT 0.19 where it is trained and where it is loaded."""
    start, version = context.stage.start, context.versions.of("peft")
    if not version or catalog.numbers(version) >= FUSED_EXPERTS:
        return
    for adapter in start.adapters if start else ():
        if not isinstance(adapter, StageRef):
            continue
        maker = context.plan.stage(adapter.key)
        written = context.plan.recipe.versions_of(maker.stage).of("peft")
        newer = not written or catalog.numbers(written) >= FUSED_EXPERTS
        if newer and maker.engine.name != context.engine.name and _on_experts(context, maker.stage):
            why = (
                f"the adapter of `{maker.stage.name}` is on fused experts, in a form that PEFT {version} does not read"
            )
            key = "model" if "model" in context.stage.spans else "from"
            context.refuse(key, why, f"write `engine = {maker.engine.name}` in this stage")


def _on_experts(context: StageContext, maker: Stage) -> bool:
    """Whether a stage's LoRA reaches fused experts: it names parameters, or all modules of a model that has such experts."""
    if not maker.settings.has("lora"):
        return False
    if maker.settings.get("lora.target_parameters"):
        return True
    modules = catalog.modules(facts.architecture(*bottom(context), context.session.files))
    return bool(modules and modules.experts) and "all" in map(str, maker.settings.items("lora.targets") or ["all"])
