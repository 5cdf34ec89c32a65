"""The inverse of model references: what is trained, what it is compared with, what rewards it."""

from __future__ import annotations

from typing import Any

from ftdsl.importers.draft import StageDraft
from ftdsl.language.values import StageRef, Term


def model(draft: StageDraft) -> None:
    """Base and adapters. What another stage of this import makes becomes `from` that stage."""
    base, adapters = draft.raw("model_name_or_path"), _csv(draft.raw("adapter_name_or_path"))
    options = _options(draft)
    draft.raw("create_new_adapter")
    if base is None and not adapters and not draft.parents:  # asked for, with all that belongs to it
        for name in options:
            parameter = "model_revision" if name == "revision" else name
            draft.note(parameter, f"belongs to the model, and none is named: `hf(…, {name} = …)`")
    if draft.parents or (base is None and not adapters):
        return
    if adapters and (made := draft.results.get(_normalized(adapters[-1]))) is not None:
        draft.parents.append(made.stage)
        return
    if not adapters and (made := draft.results.get(_normalized(str(base)))) is not None:
        draft.parents.append(made.stage)
        return
    value: Any = (
        draft.ask_for("model", "model_name_or_path") if base is None else draft.paths.model(str(base), **options)
    )
    for adapter in adapters:
        folder = {"folder": draft.raw("adapter_folder")} if draft.given("adapter_folder") else {}
        value = Term("adapter", {"where": draft.paths.model(adapter), "base": value, **folder})
    draft.set("model", value)


def _options(draft: StageDraft) -> dict[str, Any]:
    options: dict[str, Any] = {}
    revision = draft.raw("model_revision")
    if revision not in (None, "main"):
        options["revision"] = revision
    if draft.on("trust_remote_code"):
        options["trust_remote_code"] = True
    if draft.on("train_from_scratch"):
        draft.note("train_from_scratch", "write `model = scratch(like = …)`: random weights are a model of their own")
    return options


def _csv(value: Any) -> list[str]:
    items = value if isinstance(value, list) else str(value).split(",") if value else []
    return [str(item).strip() for item in items]


def _normalized(path: str) -> str:
    return path.removeprefix("./").rstrip("/")


def stage_at(draft: StageDraft, path: str) -> StageRef | None:
    """The stage of this import whose result is at a path."""
    return draft.results.get(_normalized(path))


def reference(draft: StageDraft) -> None:
    """`ref_model` and its adapters; without it the engine compares with where the stage starts, but with the bare base where an
    adapter is trained further (llamafactory/train/trainer_utils.py, create_ref_model).
    """
    if not draft.may_have("reference"):
        return
    where, adapters = draft.raw("ref_model"), _csv(draft.raw("ref_model_adapters"))
    if where is None:
        if _trains_adapter_further(draft) and (base := draft.config.value("model_name_or_path")):
            draft.set("reference", stage_at(draft, str(base)) or draft.paths.model(str(base)))
        return
    value: Any = stage_at(draft, str(where)) or draft.paths.model(str(where))
    for adapter in adapters:
        value = stage_at(draft, adapter) or Term("adapter", {"where": draft.paths.model(adapter), "base": value})
    draft.set("reference", value)


def _trains_adapter_further(draft: StageDraft) -> bool:
    config = draft.config
    refers = config.stage in ("kto", "ppo") or str(config.value("pref_loss")) not in ("orpo", "simpo")
    continued = bool(config.value("adapter_name_or_path")) and not config.on("create_new_adapter")
    return refers and continued and config.value("finetuning_type") == "lora"


def reward(draft: StageDraft) -> None:
    """`reward_model_type`: lora (an adapter on this stage's base), full, or api (a server)."""
    if not draft.may_have("reward"):
        return
    where, kind = draft.raw("reward_model"), str(draft.take("reward_model_type"))
    draft.used.update(("reward_model_adapters",))
    if where is None:
        return
    made = stage_at(draft, str(where))
    if made is not None:
        draft.set("reward", made)
    elif kind == "api":
        draft.set("reward", Term("server", {"url": where}))
    elif kind == "full":
        draft.set("reward", draft.paths.model(str(where)))
    else:
        draft.set("reward", Term("adapter", {"where": draft.paths.model(str(where)), "base": _judge_base(draft)}))


def _judge_base(draft: StageDraft) -> Any:
    """What a LoRA reward model was trained on: the engine loads it beside the adapter in training, on the same weights
    (llamafactory/train/trainer_utils.py, create_reward_model)."""
    if draft.parents:
        return StageRef(draft.parents[0])
    value: Any = draft.values.get("model") or draft.ask_for("model", "model_name_or_path")
    further = isinstance(value, Term) and value.name == "adapter" and not draft.blocks & {"lora", "oft"}
    return value.options["base"] if further else value
