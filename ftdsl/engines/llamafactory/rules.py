"""Words of the recipe that more than one key decides, each a function from the stage to LLaMA-Factory's parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ftdsl.engines.llamafactory.words import plain
from ftdsl.engines.llamafactory.work import Work
from ftdsl.language.values import Amount, StageRef, Term

Params = dict[str, Any]


def model(work: Work) -> Params:
    """Base, adapters already there, and what belongs to loading them."""
    start = work.stage.start
    if start is None:
        return {}
    if isinstance(start.base, Term) and start.base.name == "best":
        work.refuse("model", "choosing the best of several runs cannot be compiled yet", "name one of them")
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


def method(work: Work) -> Params:
    """`finetuning_type`, and whether a new adapter goes on top."""
    name = work.planned.method or "lora"
    if name in ("adapter", "prefix"):
        work.refuse(name, f"LLaMA-Factory has no `{name}`", "use `lora { }`")
        return {}
    params: Params = {"finetuning_type": name}
    if work.stage.new_adapter:
        if work.planned.strategy == "zero3" or work.name("kernels") == "unsloth" or work.stage.settings.has("quantize"):
            why = "LLaMA-Factory cannot stack a new adapter with ZeRO-3, Unsloth or a quantised base"
            work.refuse("lora", why, "put a `merge` stage between")
        params["create_new_adapter"] = True
    return params


def use_cpu(work: Work) -> Params:
    """Always said on CPU: without it newer accelerates run two separate jobs of one process each."""
    return {} if work.planned.world.gpu else {"use_cpu": True}


def run_name(work: Work) -> Params:
    name = work.get("track.name") or f"{work.plan.recipe.name}/{work.stage.key}"
    return {"run_name": name}


def duration(work: Work) -> Params:
    value = work.get("duration")
    if not isinstance(value, Amount):
        return {"num_train_epochs": 3.0}
    if value.unit == "epochs":
        return {"num_train_epochs": float(value.number)}
    if value.unit == "steps":
        return {"max_steps": int(value.number)}
    if value.unit == "tokens" and work.planned.batch:
        per_step = work.planned.batch.total * int(work.get("max_len"))
        return {"max_steps": math.ceil(value.number / per_step)}
    work.refuse("duration", "LLaMA-Factory cannot train for a time", "write steps or epochs")
    return {}


def packing(work: Work) -> Params:
    value = work.get("packing")
    if value is None:
        return {}
    name = {True: "neat", False: "false"}.get(value) if isinstance(value, bool) else value.name
    if name == "false":
        return {"packing": False}
    return {"packing": True, "neat_packing": True} if name == "neat" else {"packing": True}


def upcast(work: Work) -> Params:
    parts = [part.name if isinstance(part, Term) else part for part in work.get("upcast") or ()]
    if not work.said("upcast") and work.stage.settings.has("quantize"):
        parts = ["norms"]
    names = {"norms": "upcast_layernorm", "logits": "upcast_lmhead_output"}
    return {names[part]: True for part in parts}


def compile(work: Work) -> Params:
    value = work.get("compile")
    if value in (None, False):
        return {}
    options = value.options if isinstance(value, Term) else {}
    extra = {f"torch_compile_{key}": text for key, text in options.items()}
    return {"torch_compile": True, **extra}


def trainable(work: Work) -> Params:
    if not work.said("trainable"):
        return {}
    parts = {part.name if isinstance(part, Term) else part for part in work.get("trainable") or ()}
    names = {
        "freeze_vision_tower": "vision",
        "freeze_multi_modal_projector": "projector",
        "freeze_language_model": "language",
    }
    return {key: part not in parts for key, part in names.items()}


def resume(work: Work) -> Params:
    value = work.get("resume")
    if isinstance(value, Term) and value.name == "file":
        return {"resume_from_checkpoint": work.places.model(value)}
    if isinstance(value, Term) and value.name == "never":
        return {"overwrite_output_dir": True}
    return {}


def push(work: Work) -> Params:
    value = work.get("push")
    if not isinstance(value, Term):
        return {}
    options = value.options
    names = {"id": "hub_model_id", "private": "hub_private_repo", "revision": "hub_revision", "when": "hub_strategy"}
    given = {names[key]: plain(option) for key, option in options.items() if key in names}
    when = given.get("hub_strategy")
    return {"push_to_hub": True, **given} | ({"hub_strategy": {"save": "every_save"}.get(when, when)} if when else {})


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


def layers(work: Work) -> Params:
    for block in ("freeze", "lora"):
        value = work.get(f"{block}.layers")
        if not isinstance(value, Term) or value.name == "all":
            continue
        count = int(value.options.get("n", 2))
        if value.name == "expanded":
            return {"freeze_trainable_layers": count, "use_llama_pro": True}
        return {"freeze_trainable_layers": -count if value.name == "first" else count}
    return {}


def oft_rank(work: Work) -> Params:
    rank = work.get("oft.rank")
    return {"oft_rank": rank, "oft_block_size": 0} if rank else {}


def special(work: Work) -> Params:
    value = work.get("tokenizer.special")
    if isinstance(value, Term):
        return {"new_special_tokens_config": work.places.model(value)}
    return {"add_special_tokens": ",".join(value)} if value else {}


def token_init(work: Work) -> Params:
    value = work.get("tokenizer.init")
    if not isinstance(value, Term) or not work.said("tokenizer.init"):
        return {}
    if value.name == "noise":
        return {"init_special_tokens": "noise_init"}
    return {"init_special_tokens": "desc_init_w_noise" if value.options.get("noise") else "desc_init"}


def betas(work: Work) -> Params:
    value = work.get("optim.betas")
    return {"adam_beta1": value[0], "adam_beta2": value[1]} if value and work.said("optim.betas") else {}


def schedule(work: Work) -> Params:
    """The curve of the rate; three phases that the engine's own trapezoid can draw are drawn with it."""
    value = work.get("optim.schedule")
    if isinstance(value, list | tuple):
        return _phases(work, list(value))
    name = value.name if isinstance(value, Term) else "cosine"
    options = dict(value.options) if isinstance(value, Term) else {}
    floor = work.get("optim.min_lr")
    if name == "wsd":
        return _wsd(work, options, floor)
    if name == "cosine" and floor:
        key = "min_lr_rate" if floor.unit == "share" else "min_lr"
        return {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {key: floor.number}}
    if floor:
        work.refuse("optim.min_lr", f"`{name}` has no floor in transformers", "use `schedule = cosine` or `wsd`")
    if name == "greedy":
        work.refuse("optim.schedule", "LLaMA-Factory 0.9.5 has no `greedy` schedule")
    kwargs = {_SCHEDULE_OPTIONS.get(key, key): option for key, option in options.items()}
    return {"lr_scheduler_type": name, **({"lr_scheduler_kwargs": kwargs} if kwargs else {})}


_SCHEDULE_OPTIONS = {"cycles": "num_cycles", "power": "power"}


def _wsd(work: Work, options: dict[str, Any], floor: Any) -> Params:
    kwargs: Params = {}
    for key, name in (("stable", "num_stable_steps"), ("decay", "num_decay_steps")):
        if isinstance(options.get(key), Amount):
            kwargs[name] = int(options[key].number)
    if floor and floor.unit == "share":
        kwargs["min_lr_ratio"] = floor.number
    elif floor:
        kwargs["min_lr_ratio"] = floor.number / work.get("optim.lr")
    if shape := plain(options.get("shape")):
        kwargs["decay_type"] = shape
    return {"lr_scheduler_type": "warmup_stable_decay", **({"lr_scheduler_kwargs": kwargs} if kwargs else {})}


def _phases(work: Work, phases: list[Term]) -> Params:
    """`[warmup(), hold(), decay()]` is transformers' warmup_stable_decay when the rate starts at 0."""
    names = [phase.name for phase in phases]
    lengths = [
        next((v for v in phase.options.values() if isinstance(v, Amount) and v.unit == "steps"), None)
        for phase in phases
    ]
    starts = phases[0].options.get("start") if names[:1] == ["warmup"] else None
    if names != ["warmup", "hold", "decay"] or any(length is None for length in lengths) or (starts and starts.number):
        why = (
            "only `[warmup(… steps), hold(… steps), decay(… steps)]`, from 0 on, can be compiled for LLaMA-Factory yet"
        )
        work.refuse("optim.schedule", why)
        return {}
    warm, hold, decay = (int(length.number) for length in lengths if length)
    kwargs: Params = {"num_stable_steps": hold, "num_decay_steps": decay}
    last = phases[2].options
    if isinstance(last.get("to"), Amount):
        to = last["to"]
        kwargs["min_lr_ratio"] = to.number if to.unit == "share" else to.number / work.get("optim.lr")
    if last.get("shape") is not None:
        kwargs["decay_type"] = plain(last["shape"])
    return {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": kwargs, "warmup_steps": warm}


def warmup(work: Work) -> Params:
    """transformers 5 takes a share as `warmup_steps` below 1."""
    value = work.get("optim.warmup")
    if not isinstance(value, Amount) or not value.number:
        return {}
    return {"warmup_steps": value.number if value.unit == "share" else int(value.number)}


def checkpointing(work: Work) -> Params:
    value = work.get("memory.checkpointing")
    name = value.name if isinstance(value, Term) else {True: "full", False: "none"}.get(value, "full")
    if name == "none":
        return {"disable_gradient_checkpointing": True}
    if name == "selective":
        work.refuse("memory.checkpointing", "LLaMA-Factory checkpoints every layer or none", "use `full` or `none`")
    reentrant = work.option("memory.checkpointing", "reentrant")
    return {} if reentrant is None else {"use_reentrant_gc": reentrant}


def _strategy(value: Any) -> tuple[str, float | int | None]:
    """An interval as transformers' strategy and number (a share stays below 1)."""
    if isinstance(value, Term):
        return ("no" if value.name == "never" else value.name), None
    if value.unit == "epochs":
        return "epoch", None
    return "steps", value.number if value.unit == "share" else int(value.number)


def save_every(work: Work) -> Params:
    value = work.get("save.every")
    if value is None:
        return {}
    if isinstance(value, Amount) and (value.unit == "time" or (value.unit == "epochs" and value.number != 1)):
        work.refuse("save.every", "LLaMA-Factory saves every so many steps, or every epoch")
        return {}
    strategy, steps = _strategy(value)
    return {"save_strategy": strategy, **({"save_steps": steps} if steps is not None else {})}


def keep(work: Work) -> Params:
    value = work.get("save.keep")
    return {"save_total_limit": value} if isinstance(value, int) else {}


def best_by(work: Work) -> Params:
    value = work.get("save.best_by")
    if value is None:
        return {}
    higher = isinstance(value, Term) and value.name == "highest"
    metric = str(value.options.get("metric", value.name) if isinstance(value, Term) else value)
    metric = metric.replace("rouge_l", "rouge-l").replace("rouge_1", "rouge-1").replace("rouge_2", "rouge-2")
    greater = higher or (not metric.endswith("loss") and not (isinstance(value, Term) and value.name == "lowest"))
    return {"load_best_model_at_end": True, "metric_for_best_model": metric, "greater_is_better": greater}


def eval_every(work: Work) -> Params:
    if not work.get("evaluate.data"):
        return {}
    value = work.get("evaluate.every")
    if value is None:
        return {}
    strategy, steps = _strategy(value)
    params: Params = {"eval_strategy": strategy, **({"eval_steps": steps} if steps is not None else {})}
    params["per_device_eval_batch_size"] = work.get("evaluate.batch") or work.get("batch.micro")
    return params


def metrics(work: Work) -> Params:
    names = {plain(metric) for metric in work.get("evaluate.metrics") or ()}
    if names & {"rouge", "bleu"} and work.planned.strategy == "zero3":
        work.refuse("evaluate.metrics", "rouge and bleu generate, which is not possible with zero3")
    return (
        {"compute_accuracy": True}
        if "accuracy" in names
        else {"predict_with_generate": True}
        if names - {"loss"}
        else {}
    )


def track_to(work: Work) -> Params:
    items = work.stage.settings.items("track.to")
    names = [plain(item) for item in items]
    params: Params = {"report_to": names[0] if len(names) == 1 else names or "none"}
    swan = next((item for item in items if isinstance(item, Term) and item.name == "swanlab"), None)
    if swan:
        params |= {
            "use_swanlab": True,
            **{f"swanlab_{k.replace('dir', 'logdir')}": plain(v) for k, v in swan.options.items()},
        }
    if work.get("track.project") and work.said("track.project"):
        params["project"] = work.get("track.project")
    return params


def log_every(work: Work) -> Params:
    value = work.get("track.every")
    return {"logging_steps": value.number if value.unit == "share" else int(value.number)} if value else {}


def guard(work: Work) -> Params:
    """NaN is never logged as 0: the engine's filter is always off."""
    for key in ("nan", "spike", "grad_norm"):
        action = work.get(f"guard.{key}")
        if isinstance(action, Term) and action.name in ("rollback", "skip") and work.said(f"guard.{key}"):
            work.refuse(f"guard.{key}", f"`{action.name}` cannot be compiled yet", "use `stop` or `warn`")
    params: Params = {"logging_nan_inf_filter": False}
    if work.get("guard.patience"):
        params["early_stopping_steps"] = work.get("guard.patience")
    return params


def generation(work: Work) -> Params:
    """How answers are made; greedy unless the recipe says otherwise, and always written out."""
    greedy = 0 if work.stage.kind == "eval" else 1
    temperature = work.get("generate.temperature")
    temperature = greedy if temperature is None else temperature
    params: Params = {"do_sample": bool(temperature), "max_new_tokens": work.get("generate.max_new_tokens") or 1024}
    if temperature:
        params |= {
            "temperature": float(temperature),
            "top_p": _or(work.get("generate.top_p"), 1.0),
            "top_k": work.get("generate.top_k") or 0,
        }
    if beams := work.get("generate.beams"):
        params["num_beams"] = beams
    for key in ("repetition_penalty", "length_penalty"):
        if work.said(f"generate.{key}"):
            params[key] = work.get(f"generate.{key}")
    return params


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def infer_model(work: Work) -> Params:
    """Base and adapters for scoring and merging; a stack of adapters is merged in memory, in order."""
    start = work.stage.start
    params = model(work)
    if start and len(start.adapters) > 1 and work.stage.settings.has("quantize") and work.stage.kind != "merge":
        why = "LLaMA-Factory takes one adapter on a quantised base, and here are several"
        work.refuse("model", why, "put a `merge` stage between")
    return params | {"finetuning_type": "lora" if start and start.adapters else "full"}


Rule = Callable[[Work], Params]

TRAINING: tuple[Rule, ...] = (
    model, method, use_cpu, run_name, duration, packing, upcast, compile, trainable, resume, push, reference, layers,
    oft_rank, special, token_init, betas, schedule, warmup, checkpointing, save_every, keep, best_by, eval_every,
    metrics, track_to, log_every, guard,
)  # fmt: skip
SCORING: tuple[Rule, ...] = (infer_model, use_cpu, special)
MERGING: tuple[Rule, ...] = (infer_model, special)

_BY_OTHERS = {"dataset", "mix", "eval_data", "count", "strategy", "launcher", "rendezvous", "nodes", "eval_stage",
              "export_device", "temperature", "beams", "track_project", "track_name", "model"}  # fmt: skip


def names(rules: tuple[Rule, ...]) -> frozenset[str]:
    """The rules of an overlay that these functions, and what they stand among, carry out."""
    return frozenset(rule.__name__ for rule in rules) | _BY_OTHERS
