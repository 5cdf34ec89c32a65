"""A document and what is expected of its stage, to a trainer that is ready to train."""

from __future__ import annotations

from typing import Any

from .. import guarded, watch
from ..report import Log
from ..stage import Part, Stage
from . import models, on_policy, ranks, sources
from .formats import Format, format_of
from .trainers import Kind, arguments, kind_of, trainer_class

MIXTURE = "FTDSL_MOE_LORA"

OURS = ("data", "peft", *models.CONFIG)
"""Parameters of the document that are no fields of a TRL configuration."""


def trainer(config: dict[str, Any], stage: Stage, part: Part, log: Log, callbacks: list[Any]) -> Any:
    """TRL's trainer with the guard, the ramp and the callbacks of a stage. Raises: StageError."""
    data, peft = config["data"], config.get("peft")
    kind = kind_of(data)
    params = {name: value for name, value in config.items() if name not in OURS}
    if kind.generates:
        del params["max_length"]  # prompts are filtered here
    trained = arguments(kind, params)  # first: it starts the process group
    tokenizer = models.tokenizer_of(config)
    format = format_of(data["template"]) if "template" in data else Format("none")
    format.prepare(tokenizer)
    train, held = rows(data, kind, tokenizer, format, int(config["max_length"]))
    if kind.generates:
        room = int(config["max_length"]) - trained.max_completion_length
        train, held = (part and on_policy.fitting(part, tokenizer, format, room, log) for part in (train, held))
        on_policy.enough(len(train), trained)
    scored = stage.kind == "eval"
    base_model = models.base_of(config, tokenizer, scores=kind.scores)
    model = models.with_adapters(base_model, config, new=peft is not None, trained=not scored)
    if kind.generates:
        on_policy.end_answers(model, tokenizer, format)
    added = models.peft_config(peft, scores=kind.scores) if peft else None
    guard = guarded.guard_of(stage, str(config["output_dir"]), log, scaled=bool(config.get("fp16")))
    base = trainer_class(kind, *_mixins(kind, peft), **_fields(kind, data, format))
    made = guarded.guarded(base, guard, stage, counts_tokens=kind.counts_tokens)
    seen = {**config, "cutoff_len": config["max_length"]}
    watcher = watch.callback(stage, part, log, seen, guard if made is not base else None)
    return made(
        model=model,
        args=trained,
        train_dataset=train,
        eval_dataset=train if scored else held,
        processing_class=tokenizer,
        callbacks=[watcher, *_callbacks(data, peft, log), *callbacks],
        **({"peft_config": added} if added is not None else {}),
        **_reference(kind, data, config, tokenizer),
        **_scored(data, config, tokenizer, format, stage, log),
    )


def _mixins(kind: Kind, peft: dict[str, Any] | None) -> list[type]:
    mixins: list[type] = [on_policy.OnFormat] if kind.generates else []
    if kind.config == "DistillationConfig":
        mixins = [on_policy.PartlyOffPolicy]
    adapter = (peft or {}).get("peft_type")
    if adapter == ranks.TYPE:
        mixins.append(ranks.Orthogonal)
    if adapter == MIXTURE:
        from ..balanced import Balanced

        mixins.insert(0, Balanced)
    return mixins


def _callbacks(data: dict[str, Any], peft: dict[str, Any] | None, log: Log) -> list[Any]:
    callbacks = [ranks.callback(log)] if (peft or {}).get("peft_type") == ranks.TYPE else []
    if patience := data.get("patience"):
        from transformers import EarlyStoppingCallback

        callbacks.append(EarlyStoppingCallback(early_stopping_patience=int(patience)))
    return [*callbacks, on_policy.spread(log)] if "rewards" in data else callbacks


def _fields(kind: Kind, data: dict[str, Any], format: Format) -> dict[str, Any]:
    return {"format": format, "on_policy": data.get("on_policy", 1.0)} if kind.generates else {}


def _scored(
    data: dict[str, Any], config: dict[str, Any], tokenizer: Any, format: Format, stage: Stage, log: Log
) -> dict[str, Any]:
    """Rewards, or a teacher."""
    if "rewards" in data:
        return {"reward_funcs": on_policy.functions(data, config, tokenizer, format, log, smoke=stage.smoke)}
    if "teacher" not in data:
        return {}
    named = data["teacher"]
    source = {**config, "model_name_or_path": named["model"], "adapter_name_or_path": named.get("adapters", [])}
    return {"teacher_model": models.with_adapters(models.base_of(source, tokenizer), source, new=True)}


def rows(data: dict[str, Any], of: Kind, tokenizer: Any, format: Format, limit: int) -> tuple[Any, Any]:
    """(training rows, evaluation rows or None), as token ids, or as prompts."""
    kind = "prompt" if of.generates else "sft" if data["kind"] == "distill" else data["kind"]
    train, held = sources.load(data, "train", kind), None
    if data.get("held_out"):
        train, held = sources.split(train, data["held_out"], data["seed"])
        held = sources.tokenise(held, data, "train", kind, tokenizer, format, limit)
    elif data.get("eval"):
        held = sources.tokenise(sources.load(data, "eval", kind), data, "eval", kind, tokenizer, format, limit)
    return sources.tokenise(train, data, "train", kind, tokenizer, format, limit), held


def _reference(kind: Kind, data: dict[str, Any], config: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """The model that is compared with, where it is not the model in training with its adapter off."""
    if not kind.reference or "reference" not in data:
        return {}
    named = data["reference"]
    source = {**config, "model_name_or_path": named["model"], "adapter_name_or_path": named.get("adapters", [])}
    return {"ref_model": models.with_adapters(models.base_of(source, tokenizer), source, new=True)}
