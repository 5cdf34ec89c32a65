"""Resuming, the name of a run, and the upload of its result: parameters of transformers' Trainer."""

from __future__ import annotations

from ftdsl.engines.shared.overlay import plain
from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.recipe import Lineage


def lineage_of(context: StageContext, value: Term | StageRef) -> Lineage:
    """Base and adapters of a model that another key than `model` names."""
    if isinstance(value, StageRef):
        return context.plan.stage(value.key).stage.result or Lineage(value)
    if value.name == "adapter":
        below = lineage_of(context, value.options["base"])
        return Lineage(below.base, (*below.adapters, value))
    return Lineage(value)


def base_model(context: StageContext) -> Params:
    """The base of a stage, its revision, and whether its own code may run; {} for a stage that starts from nothing."""
    start = context.stage.start
    if start is None:
        return {}
    options = start.base.options if isinstance(start.base, Term) else {}
    params: Params = {"model_name_or_path": context.paths.model(start.base)}
    if options.get("revision"):
        params["model_revision"] = options["revision"]
    if options.get("trust_remote_code"):
        params["trust_remote_code"] = True
    return params


def resume(context: StageContext) -> Params:
    value = context.get("resume")
    if isinstance(value, Term) and value.name == "file":
        return {"resume_from_checkpoint": context.paths.model(value)}
    if isinstance(value, Term) and value.name == "never":
        return {"overwrite_output_dir": True}
    return {}


def run_name(context: StageContext) -> Params:
    name = context.get("track.name") or f"{context.plan.recipe.name}/{context.stage.key}"
    return {"run_name": name}


def push(context: StageContext) -> Params:
    """The upload of a result: by the Trainer, or by an export (llamafactory/train/tuner.py, export_model)."""
    value = context.get("push")
    if not isinstance(value, Term):
        return {}
    options = value.options
    if context.stage.kind in ("merge", "quantize"):
        for name in sorted({"revision", "when"} & set(options)):
            context.refuse("push", f"`{name}` has no effect on the upload of an export", "drop it")
        return {"export_hub_model_id": options["id"]}
    names = {"id": "hub_model_id", "private": "hub_private_repo", "revision": "hub_revision", "when": "hub_strategy"}
    params = {names[key]: plain(option) for key, option in options.items() if key in names}
    when = params.get("hub_strategy")
    return {"push_to_hub": True, **params} | ({"hub_strategy": {"save": "every_save"}.get(when, when)} if when else {})
