"""The document's `data` block of stages that train on the model's own answers: rewards, judges, the teacher."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.shared.overlay import plain
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.engines.shared.trainer.start import lineage_of
from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.rules.post_training import on_policy

COLUMNS = {"exact": "answer", "code": "tests"}
"""Rewards that read a column -> the option that names it, which is also the column's usual name."""


def block(context: StageContext) -> dict[str, Any]:
    """What `grpo` and `distill` have besides rows."""
    if context.stage.kind == "grpo":
        return {"rewards": rewards(context)}
    if context.stage.kind == "distill" and (teacher := context.get("teacher")) is not None:
        share = on_policy(context.stage.settings)
        return {"teacher": _model(context, teacher), **({"on_policy": share} if share < 1 else {})}
    return {}


def files(context: StageContext) -> list[str]:
    """Files of the author's functions."""
    rewards = [
        reward for reward in context.get("rewards") or () if isinstance(reward, Term) and reward.name == "python"
    ]
    return [str(reward.options["function"]).rpartition(":")[0] for reward in rewards]


def rewards(context: StageContext) -> list[dict[str, Any]]:
    """Specs of runtime/rewards.py. The name of a reward in metrics is its kind, or its function, with a number if it repeats."""
    specs: list[dict[str, Any]] = []
    for reward in context.get("rewards") or ():
        options = {name: _option(value) for name, value in reward.options.items() if name != "weight"}
        if reward.name in COLUMNS:
            options.setdefault(COLUMNS[reward.name], COLUMNS[reward.name])
        if reward.name == "judge":
            options = _model(context, reward.options["model"])
        name = str(options["function"]).rpartition(":")[2] if reward.name == "python" else reward.name
        again = sum(spec["name"].rstrip("0123456789_") == name for spec in specs)
        specs.append({"kind": reward.name, "name": f"{name}_{again + 1}" if again else name, **options})
    return specs


def _option(value: Any) -> Any:
    if isinstance(value, Term):  # `take = tag(answer)`
        return {"kind": value.name, **{name: plain(option) for name, option in value.options.items()}}
    return plain(value)


def _model(context: StageContext, value: Any) -> dict[str, Any]:
    """Where a model is, and the adapters on it."""
    lineage = context.plan.stage(value.key).stage.result if isinstance(value, StageRef) else lineage_of(context, value)
    if lineage is None:
        return {"model": ""}  # reported as a wrong hand-off
    teacher: dict[str, Any] = {"model": context.paths.model(lineage.base)}
    if lineage.adapters:
        teacher["adapters"] = [context.paths.adapter(adapter) for adapter in lineage.adapters]
    return teacher
