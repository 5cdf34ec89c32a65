"""The models of a stage: base, adapters, reference and reward model."""

from __future__ import annotations

from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.engines.shared.trainer.start import base_model, lineage_of
from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.recipe import Lineage


def model(context: StageContext) -> Params:
    """Base, existing adapters, and how to load them."""
    params, start = base_model(context), context.stage.start
    if start and start.adapters:
        params["adapter_name_or_path"] = ",".join(context.paths.adapter(a) for a in start.adapters)
    return params


def infer_model(context: StageContext) -> Params:
    """Base and adapters for scoring and merging; a stack of adapters is merged in memory, in order."""
    start = context.stage.start
    params = model(context)
    if start and len(start.adapters) > 1 and context.stage.settings.has("quantize") and context.stage.kind != "merge":
        why = "LLaMA-Factory takes only one adapter on a quantised base; this stage has several"
        context.refuse("model", why, "put a `merge` stage between")
    return params | {"finetuning_type": "lora" if start and start.adapters else "full"}


def reward(context: StageContext) -> Params:
    """The reward model of `ppo` (llamafactory/train/trainer_utils.py, create_reward_model).

    Its adapter is loaded on the model in training if it was trained on the same weights; otherwise the whole model is loaded.
    """
    value = context.get("reward")
    if context.stage.kind != "ppo":
        return {}
    if value is None:
        help = "write `reward = NAME` of a `reward` stage"
        context.session.sink.error(
            "FT011", f"`{context.stage.name}` has no reward model", context.stage.span, help=help
        )
        return {}
    if isinstance(value, Term) and value.name == "server":
        return {"reward_model_type": "api", "reward_model": value.options["url"]}
    judge = lineage_of(context, value)
    if judge.adapters and context.planned.method == "lora" and _beside(context, judge):
        return {"reward_model_type": "lora", "reward_model": context.paths.adapter(judge.adapters[-1])}
    params: Params = {"reward_model_type": "full", "reward_model": context.paths.model(judge.base)}
    if judge.adapters:
        params["reward_model_adapters"] = ",".join(context.paths.adapter(a) for a in judge.adapters)
    return params


def _beside(context: StageContext, judge: Lineage) -> bool:
    """Whether the judge's adapter was trained on the same weights as the adapter in training."""
    start = context.stage.start
    if start is None:
        return False
    below = start.adapters if context.stage.new_adapter else start.adapters[:-1]
    return judge == Lineage(start.base, (*below, judge.adapters[-1]))


def calibrate(context: StageContext) -> Params:
    """The engine forces fp16 for the rest of a quantised model (model/model_utils/quantization.py)."""
    if context.is_explicit("dtype") and context.name("dtype") not in ("auto", "fp16"):
        context.refuse("dtype", "GPTQ stores the weights that it does not quantise in fp16", "drop it")
    return {}


def reference(context: StageContext) -> Params:
    """The reference model of `dpo`, `kto` and `ppo`: by default the model the stage starts from, its adapters frozen."""
    if context.stage.kind not in ("dpo", "kto", "ppo"):
        return {}
    value = context.get("reference")
    lineage = context.stage.start
    if isinstance(value, StageRef):
        lineage = context.plan.stage(value.key).stage.result
    elif isinstance(value, Term) and value.name == "adapter":
        lineage = lineage_of(context, value)
    elif isinstance(value, Term):
        path = context.paths.model(value)
        if lineage is not None and _needs_reference(context) and path == context.paths.model(lineage.base):
            return {}  # what the engine compares with: the model with its adapter switched off
        return {"ref_model": path}
    elif not _needs_reference(context):
        return {}
    if lineage is None:
        return {}
    params: Params = {"ref_model": context.paths.model(lineage.base)}
    if lineage.adapters:
        params["ref_model_adapters"] = ",".join(context.paths.adapter(a) for a in lineage.adapters)
    return params


def _needs_reference(context: StageContext) -> bool:
    """A new adapter can be switched off to get the reference, and so can one stacked on adapters merged in memory. An adapter
    that is trained further cannot: without a reference of its own the engine would compare with the bare base.
    """
    if context.name("loss") in ("orpo", "simpo"):
        return False
    start = context.stage.start
    continued = bool(start and start.adapters and not context.stage.new_adapter)
    return continued and context.planned.method == "lora"
