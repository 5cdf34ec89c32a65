"""Where a stage starts and what becomes of its result: model, adapters, reference, checkpoints, names."""

from __future__ import annotations

from ftdsl.engines.llamafactory.words import plain
from ftdsl.engines.llamafactory.work import Params, Work
from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.recipe import Lineage


def model(work: Work) -> Params:
    """Base, adapters already there, and what belongs to loading them."""
    start = work.stage.start
    if start is None:
        return {}
    params: Params = {"model_name_or_path": work.places.model(start.base)}
    options = start.base.options if isinstance(start.base, Term) else {}
    if options.get("revision"):
        params["model_revision"] = options["revision"]
    if start.adapters:
        params["adapter_name_or_path"] = ",".join(work.places.adapter(a) for a in start.adapters)
    if options.get("trust_remote_code"):
        params["trust_remote_code"] = True
    return params


def infer_model(work: Work) -> Params:
    """Base and adapters for scoring and merging; a stack of adapters is merged in memory, in order."""
    start = work.stage.start
    params = model(work)
    if start and len(start.adapters) > 1 and work.stage.settings.has("quantize") and work.stage.kind != "merge":
        why = "LLaMA-Factory takes one adapter on a quantised base, and here are several"
        work.refuse("model", why, "put a `merge` stage between")
    return params | {"finetuning_type": "lora" if start and start.adapters else "full"}


def reward(work: Work) -> Params:
    """Who judges the answers of `ppo` (llamafactory/train/trainer_utils.py, create_reward_model).

    An adapter is put beside the one in training when it was trained on the same weights; else the judge is loaded whole.
    """
    value = work.get("reward")
    if work.stage.kind != "ppo":
        return {}
    if value is None:
        help = "write `reward = NAME` of a `reward` stage"
        work.session.sink.error("FT011", f"`{work.stage.name}` has no reward model", work.stage.span, help=help)
        return {}
    if isinstance(value, Term) and value.name == "server":
        return {"reward_model_type": "api", "reward_model": value.options["url"]}
    judge = lineage_of(work, value)
    if judge.adapters and work.planned.method == "lora" and _beside(work, judge):
        return {"reward_model_type": "lora", "reward_model": work.places.adapter(judge.adapters[-1])}
    params: Params = {"reward_model_type": "full", "reward_model": work.places.model(judge.base)}
    if judge.adapters:
        params["reward_model_adapters"] = ",".join(work.places.adapter(a) for a in judge.adapters)
    return params


def lineage_of(work: Work, value: Term | StageRef) -> Lineage:
    """Base and adapters of what a word names besides `model`."""
    if isinstance(value, StageRef):
        return work.plan.stage(value.key).stage.result or Lineage(value)
    if value.name == "adapter":
        below = lineage_of(work, value.options["base"])
        return Lineage(below.base, (*below.adapters, value))
    return Lineage(value)


def _beside(work: Work, judge: Lineage) -> bool:
    """Whether the judge's adapter stands on the very weights that the one in training stands on."""
    start = work.stage.start
    if start is None:
        return False
    below = start.adapters if work.stage.new_adapter else start.adapters[:-1]
    return judge == Lineage(start.base, (*below, judge.adapters[-1]))


def calibrate(work: Work) -> Params:
    """The engine forces fp16 for the rest of a quantised model (model/model_utils/quantization.py)."""
    if work.said("dtype") and work.name("dtype") not in ("auto", "fp16"):
        work.refuse("dtype", "what GPTQ leaves whole is stored in fp16", "drop it")
    return {}


def reference(work: Work) -> Params:
    """What dpo and kto compare with: where the stage starts, unless said. Adapters below are frozen in memory."""
    if work.stage.kind not in ("dpo", "kto", "ppo"):
        return {}
    value = work.get("reference")
    lineage = work.stage.start
    if isinstance(value, StageRef):
        lineage = work.plan.stage(value.key).stage.result
    elif isinstance(value, Term):
        return {"ref_model": work.places.model(value)}
    elif not _needs_reference(work):
        return {}
    if lineage is None:
        return {}
    params: Params = {"ref_model": work.places.model(lineage.base)}
    if lineage.adapters:
        params["ref_model_adapters"] = ",".join(work.places.adapter(a) for a in lineage.adapters)
    return params


def _needs_reference(work: Work) -> bool:
    """A fresh adapter can be switched off to get its reference, and so can one stacked on adapters merged in memory;
    one that is trained further cannot: without it the engine would compare with the bare base."""
    if work.name("loss") in ("orpo", "simpo"):
        return False
    start = work.stage.start
    continued = bool(start and start.adapters and not work.stage.new_adapter)
    return continued and work.planned.method == "lora"


def resume(work: Work) -> Params:
    value = work.get("resume")
    if isinstance(value, Term) and value.name == "file":
        return {"resume_from_checkpoint": work.places.model(value)}
    if isinstance(value, Term) and value.name == "never":
        return {"overwrite_output_dir": True}
    return {}


def run_name(work: Work) -> Params:
    name = work.get("track.name") or f"{work.plan.recipe.name}/{work.stage.key}"
    return {"run_name": name}


def push(work: Work) -> Params:
    """Where a result is uploaded to: by the Trainer, or by an export (llamafactory/train/tuner.py, export_model)."""
    value = work.get("push")
    if not isinstance(value, Term):
        return {}
    options = value.options
    if work.stage.kind in ("merge", "quantize"):
        for name in sorted({"revision", "when"} & set(options)):
            work.refuse("push", f"an export takes no `{name}`", "drop it")
        return {"export_hub_model_id": options["id"]}
    names = {"id": "hub_model_id", "private": "hub_private_repo", "revision": "hub_revision", "when": "hub_strategy"}
    given = {names[key]: plain(option) for key, option in options.items() if key in names}
    when = given.get("hub_strategy")
    return {"push_to_hub": True, **given} | ({"hub_strategy": {"save": "every_save"}.get(when, when)} if when else {})
