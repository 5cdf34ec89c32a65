"""What a recipe says about a model that is shipped, for its card (runtime/shipping.py writes it and adds the scores)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import StageRef, Term
from ftdsl.plan.plan import PlannedStage
from ftdsl.recipe.recipe import ModelRef

SHOWN = (
    "model", "data", "duration", "optim.lr", "optim.schedule", "optim.warmup", "lora.rank", "lora.alpha", "max_len",
    "precision", "template", "seed",
)  # fmt: skip
"""Settings of a training that a reader of a card asks for first."""


def card_of(context: StageContext, made: str, relation: str, library: str = "transformers") -> dict[str, Any]:
    """The card's data. made: a sentence on how the model was made; relation: to its base, as the Hub names it."""
    ancestors = list(_ancestors(context))
    trained = [planned for planned in ancestors if planned.stage.kind in TRAINING]
    bases = [name for where in _bases(context, ancestors) if (name := _hub_name(where))]
    data = dict.fromkeys(
        name for planned in ancestors for key in ("data", "source") for name in _hub_items(planned, key)
    )
    kinds = dict.fromkeys(planned.stage.kind for planned in trained)
    return {
        "name": context.plan.recipe.name,
        "made": made,
        "base_model": next(iter(bases), ""),
        "base_model_relation": relation if bases else "",
        "library_name": library,
        "pipeline_tag": "text-generation",
        "datasets": list(data),
        "tags": ["ftdsl", *kinds, relation],
        "trained": [{"stage": planned.key, "settings": _settings(planned)} for planned in trained],
        "scores": [
            {"stage": planned.key, "folder": planned.folder} for planned in ancestors if planned.stage.kind == "eval"
        ],
    }


def _ancestors(context: StageContext) -> Iterator[PlannedStage]:
    """The stages that must have run before, in the order of the plan."""
    wanted, todo = set[str](), list(context.stage.needs)
    while todo:
        key = todo.pop()
        if key not in wanted:
            wanted.add(key)
            todo += context.plan.stage(key).stage.needs
    return (planned for planned in context.plan.stages if planned.key in wanted)


def _bases(context: StageContext, ancestors: list[PlannedStage]) -> Iterator[ModelRef]:
    for stage in (*(planned.stage for planned in ancestors), context.stage):
        if stage.start:
            yield stage.start.base


def _hub_name(where: Any) -> str:
    return str(where.options.get("id", "")) if isinstance(where, Term) and where.name == "hf" else ""


def _hub_items(planned: PlannedStage, key: str) -> Iterator[str]:
    for item in planned.stage.settings.items(key):
        if not isinstance(item, StageRef) and (name := _hub_name(item)):
            yield name


def _settings(planned: PlannedStage) -> dict[str, str]:
    """The text of each setting that the author wrote: the strongest layer counts."""
    texts = {key: text for key, text, _ in planned.stage.layers}
    return {key: texts[key] for key in SHOWN if key in texts}
