"""The rules of engines/llamafactory/rules.py read backwards: words that several parameters decide.

`INVERSE` is keyed by the overlay's own rule names; a test holds it complete.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ftdsl.importers.said import Said
from ftdsl.language.values import Amount, Term

Inverse = Callable[[Said], None]


def nothing(said: Said) -> None:
    """A rule whose parameters another inverse reads."""


# --- length, rows


def duration(said: Said) -> None:
    """`max_steps` above 0 wins over epochs (transformers/training_args.py)."""
    if not said.training:
        return
    steps = said.raw("max_steps")
    epochs = said.raw("num_train_epochs")
    if steps is not None and steps > 0:
        said.say("duration", Amount(steps, "steps"))
        if epochs is not None:
            said.note("num_train_epochs", f"has no effect: `max_steps: {steps}` wins")
    elif said.given("num_train_epochs", "max_steps"):
        said.say("duration", Amount(3.0 if epochs is None else epochs, "epochs"))


def packing(said: Said) -> None:
    if said.given("packing", "neat_packing") and said.training:
        neat, plain = said.on("neat_packing"), said.raw("packing")
        if neat:
            said.say("packing", Term("neat"))
        elif plain is not None or said.given("neat_packing"):
            said.say("packing", Term("plain") if plain else False)


def tokenize(said: Said) -> None:
    path = said.raw("tokenized_path")
    if path:
        said.say("tokenize", Term("ahead", {"path": said.places.seen(str(path))}))


# --- how it computes


def upcast(said: Said) -> None:
    names = {"upcast_layernorm": "norms", "upcast_lmhead_output": "logits"}
    if said.given(*names):
        said.say("upcast", [Term(part) for name, part in names.items() if said.on(name)])


def compile(said: Said) -> None:
    if said.on("torch_compile"):
        options = {key: said.raw(f"torch_compile_{key}") for key in ("backend", "mode")}
        given = {key: value for key, value in options.items() if value is not None}
        said.say("compile", Term("compile", given) if given else True)


def trainable(said: Said) -> None:
    names = {"freeze_vision_tower": "vision", "freeze_multi_modal_projector": "projector",
             "freeze_language_model": "language"}  # fmt: skip
    if said.given(*names):
        said.say("trainable", [Term(part) for name, part in names.items() if not said.config.on(name)])
        said.used.update(names)


def checkpointing(said: Said) -> None:
    if said.given("disable_gradient_checkpointing", "use_reentrant_gc"):
        reentrant = said.raw("use_reentrant_gc")
        if said.on("disable_gradient_checkpointing"):
            said.say("memory.checkpointing", Term("none"))
        else:
            said.say("memory.checkpointing", Term("full", {} if reentrant is None else {"reentrant": reentrant}))


def layers(said: Said) -> None:
    block = next((block for block in ("freeze", "lora") if block in said.blocks), "")
    count = said.take("freeze_trainable_layers")
    if said.on("use_llama_pro") and block:
        said.say(f"{block}.layers", Term("expanded", {"n": count}))
    elif block == "freeze" and said.given("freeze_trainable_layers"):
        said.say("freeze.layers", Term("first" if count < 0 else "last", {"n": abs(count)}))


def oft_rank(said: Said) -> None:
    rank = said.raw("oft_rank")
    if rank and "oft" in said.blocks:
        said.say("oft.rank", rank)
        if said.given("oft_block_size"):
            said.used.add("oft_block_size")  # 0 beside a rank, and lowered as 0 again


def oft_targets(said: Said) -> None:
    """The modules of OFT are those of `lora_target` (llamafactory/model/adapter.py); `oft_target` is read by nothing."""
    if "oft" not in said.blocks:
        return
    read = said.config.items("lora_target")
    if said.given("oft_target") and said.config.items("oft_target") != read:
        said.note("oft_target", "the engine does not read it: the modules of OFT are those of `lora_target`")
    said.used.update(("lora_target", "oft_target"))
    if said.given("lora_target"):
        said.say("oft.targets", read)


# --- tokens


def special(said: Said) -> None:
    path, tokens = said.raw("new_special_tokens_config"), said.raw("add_special_tokens")
    if path:
        said.say("tokenizer.special", Term("file", {"path": said.places.seen(str(path))}))
    elif tokens:
        said.say("tokenizer.special", str(tokens).split(","))


def token_init(said: Said) -> None:
    if said.given("init_special_tokens"):
        how = str(said.raw("init_special_tokens"))
        noise = {"desc_init_w_noise": {"noise": True}}.get(how, {})
        said.say("tokenizer.init", Term("noise") if how == "noise_init" else Term("described", noise))


# --- optimiser


def betas(said: Said) -> None:
    if said.given("adam_beta1", "adam_beta2"):
        said.say("optim.betas", [said.take("adam_beta1"), said.take("adam_beta2")])


_SCHEDULE_OPTIONS = {"num_cycles": "cycles", "power": "power"}
_WSD = {"num_stable_steps": "stable", "num_decay_steps": "decay"}


def _table(value: Any) -> dict[str, Any]:
    """A table, also as the JSON text a command line has; {} for what is none (FT060 says so)."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return {}
    return dict(found) if isinstance(found, dict) else {}


def schedule(said: Said) -> None:
    """The curve, with what transformers takes as keyword arguments."""
    if not said.given("lr_scheduler_type", "lr_scheduler_kwargs") or not said.training:
        return
    name = str(said.take("lr_scheduler_type"))
    kwargs = _table(said.config.value("lr_scheduler_kwargs"))
    if kwargs:
        said.used.add("lr_scheduler_kwargs")
    if name == "cosine_with_min_lr":
        name = "cosine"
        if (rate := kwargs.pop("min_lr_rate", None)) is not None:
            said.say("optim.min_lr", Amount(rate, "share"))
        elif (rate := kwargs.pop("min_lr", None)) is not None:
            said.say("optim.min_lr", Amount(rate, "rate"))
    options: dict[str, Any] = {}
    if name == "warmup_stable_decay":
        name, options = "wsd", _wsd(said, kwargs)
    for theirs, ours in _SCHEDULE_OPTIONS.items():
        if theirs in kwargs:
            options[ours] = kwargs.pop(theirs)
    if kwargs:
        said.note("lr_scheduler_kwargs", f"`{', '.join(kwargs)}` of a schedule cannot be said")
    said.say("optim.schedule", Term(name, options))


def _wsd(said: Said, kwargs: dict[str, Any]) -> dict[str, Any]:
    if (floor := kwargs.pop("min_lr_ratio", None)) is not None:
        said.say("optim.min_lr", Amount(floor, "share"))
    options: dict[str, Any] = {
        ours: Amount(kwargs.pop(theirs), "steps") for theirs, ours in _WSD.items() if theirs in kwargs
    }
    if shape := kwargs.pop("decay_type", None):
        options["shape"] = Term(shape)
    return options


def warmup(said: Said) -> None:
    """transformers 5 takes a share below 1 as `warmup_steps`; where both are given the ratio wins."""
    ratio, steps = said.raw("warmup_ratio"), said.raw("warmup_steps")
    if not said.training:
        return
    if ratio is not None:
        said.say("optim.warmup", Amount(ratio, "share"))
        if steps:
            said.note("warmup_steps", f"has no effect: `warmup_ratio: {ratio}` wins in transformers 5")
    elif steps is not None:
        said.say("optim.warmup", Amount(steps, "share") if 0 < steps < 1 else Amount(steps, "steps"))


# --- saving, evaluating, logging


def _every(said: Said, key: str, strategy: str, steps: Any) -> bool:
    if strategy == "no":
        said.say(key, Term("never"))
    elif strategy == "epoch":
        said.say(key, Amount(1, "epochs"))
    elif strategy == "steps":
        said.say(key, Amount(steps, "share" if steps < 1 else "steps"))
    else:
        return False
    return True


def save_every(said: Said) -> None:
    if said.given("save_strategy", "save_steps") and said.training:
        strategy = str(said.take("save_strategy"))
        if not _every(said, "save.every", strategy, said.take("save_steps")):
            said.note("save_strategy", f"`{strategy}` has no word; `save.best_by` keeps the best checkpoint")


def keep(said: Said) -> None:
    if said.given("save_total_limit"):
        limit = said.raw("save_total_limit")
        said.say("save.keep", Term("all") if limit is None else limit)


_METRICS = {"rouge-1": "rouge_1", "rouge-2": "rouge_2", "rouge-l": "rouge_l"}


def best_by(said: Said) -> None:
    names = ("load_best_model_at_end", "metric_for_best_model", "greater_is_better")
    if not said.on("load_best_model_at_end"):
        for name in names[1:]:
            if said.raw(name) is not None:
                said.note(name, "has no effect without `load_best_model_at_end`")
        return
    metric = str(said.raw("metric_for_best_model") or "loss")
    greater = said.raw("greater_is_better")
    metric = metric if metric.startswith("eval_") or metric in _METRICS else f"eval_{metric}"
    usual = not metric.endswith("loss")
    name = _METRICS.get(metric, metric)
    order = "highest" if greater else "lowest"
    said.say("save.best_by", name if greater in (None, usual) else Term(order, {"metric": name}))


def eval_every(said: Said) -> None:
    """`eval_strategy` counts only with something to evaluate; silent `eval_steps` are `logging_steps`."""
    if not said.training:
        return
    batch, strategy = said.raw("per_device_eval_batch_size"), str(said.take("eval_strategy"))
    held = said.config.value("val_size") or said.config.value("eval_dataset")
    steps = said.raw("eval_steps")
    if not held:
        for name, value in (
            ("eval_strategy", strategy != "no"),
            ("eval_steps", steps),
            ("per_device_eval_batch_size", batch),
        ):
            if value and said.given(name):
                said.note(name, "has no effect: there is nothing to evaluate on (no `eval_dataset`, no `val_size`)")
                said.reasons.setdefault("eval_steps", "there is nothing to evaluate on")
        return
    if not _every(said, "evaluate.every", strategy, steps or said.config.value("logging_steps")):
        said.note("eval_strategy", f"`{strategy}` has no word")
    if strategy != "no":
        said.say("evaluate.batch", said.take("per_device_eval_batch_size"))


def metrics(said: Said) -> None:
    if said.kind == "eval" or not said.training:
        return
    found = [Term("accuracy")] if said.on("compute_accuracy") else []
    if said.on("predict_with_generate"):
        found = [Term("rouge"), Term("bleu")]
    if found:
        said.say("evaluate.metrics", found)


_SWANLAB = {"swanlab_mode": "mode", "swanlab_workspace": "workspace", "swanlab_logdir": "dir"}


def track_to(said: Said) -> None:
    given = said.raw("report_to")
    names = given if isinstance(given, list) else [part.strip() for part in str(given).split(",")] if given else []
    if said.on("use_swanlab") and "swanlab" not in names:
        names = [*[name for name in names if name != "none"], "swanlab"]
    options = {ours: said.raw(theirs) for theirs, ours in _SWANLAB.items() if said.raw(theirs) is not None}
    space = said.raw("trackio_space_id")
    known = {"swanlab": options, "trackio": {"space": space} if space else {}}
    if names and said.training:
        said.say("track.to", [Term(str(name), known.get(str(name), {})) for name in names])
    elif names:
        said.used.update(("report_to", "use_swanlab"))


def track_project(said: Said) -> None:
    project = said.raw("project") or said.raw("swanlab_project") or said.env("WANDB_PROJECT")
    if project and project != said.default("project") and said.training:
        said.say("track.project", str(project))


def track_name(said: Said) -> None:
    name = said.raw("run_name") or said.raw("swanlab_run_name")
    if name and said.training:
        said.say("track.name", str(name))


def log_every(said: Said) -> None:
    steps = said.raw("logging_steps")
    if steps is not None and said.training:
        said.say("track.every", Amount(steps, "share" if steps < 1 else "steps"))


def logging_dir(said: Said) -> None:
    if path := said.raw("logging_dir"):
        said.say("track.dir", said.places.seen(str(path)))


def guard(said: Said) -> None:
    """The engine's filter hides NaN; a recipe never does (docs/import.md)."""
    said.used.add("logging_nan_inf_filter")


# --- answers


def temperature(said: Said) -> None:
    """`do_sample: false` is temperature 0. What the engine does in silence is written out (0.95, 0.7, 50)."""
    if not said.may_have("generate.temperature"):
        return
    answers = said.kind in ("eval", "ppo") and (said.kind == "ppo" or said.config.on("predict_with_generate"))
    if not answers and not said.given("temperature", "do_sample", "top_p", "top_k"):
        return
    if not said.take("do_sample"):
        said.say("generate.temperature", 0)
        for name in ("temperature", "top_p", "top_k"):
            said.used.add(name)
        return
    for key in ("temperature", "top_p", "top_k"):
        said.say(f"generate.{key}", said.take(key))


def beams(said: Said) -> None:
    beams = said.raw("eval_num_beams") or said.raw("num_beams")
    if beams and said.may_have("generate.beams"):
        said.say("generate.beams", beams)


def eval_stage(said: Said) -> None:
    """What an `eval` stage measures: losses (`do_eval`), answers (`do_predict` with `predict_with_generate`)."""
    said.used.update(("do_eval", "do_predict"))
    if said.kind != "eval":
        return
    found = [Term("loss")] if said.on("do_eval") else []
    found += [Term("accuracy")] if said.on("compute_accuracy") else []
    if said.on("predict_with_generate"):
        found += [Term("rouge"), Term("bleu")]
    said.say("metrics", found or [Term("loss")])


# --- resuming, uploading


def resume(said: Said) -> None:
    where, over = said.raw("resume_from_checkpoint"), said.on("overwrite_output_dir")
    if not said.training:
        return
    if isinstance(where, str) and where.lower() not in ("true", "false"):
        said.say("resume", Term("file", {"path": said.places.seen(where)}))
    elif over:
        said.say("resume", Term("never"))


def push(said: Said) -> None:
    if said.kind in ("merge", "quantize"):
        if where := said.raw("export_hub_model_id"):
            said.say("push", Term("hf", {"id": where}))
        return
    names = {"hub_private_repo": "private", "hub_revision": "revision"}
    if not said.on("push_to_hub"):
        return
    when = {"every_save": "save", "end": "end"}.get(str(said.raw("hub_strategy")))
    if said.given("hub_strategy") and when is None:
        said.note("hub_strategy", f"`{said.raw('hub_strategy')}` has no word: `when` is `end` or `save`")
    options = {ours: said.raw(theirs) for theirs, ours in names.items() if said.raw(theirs) is not None}
    where = said.raw("hub_model_id") or str(said.config.value("output_dir")).rstrip("/").rpartition("/")[2]
    said.say("push", Term("hf", {"id": where, **options, **({"when": Term(when)} if when else {})}))


def export_device(said: Said) -> None:
    if said.raw("export_device") == "auto" and said.kind == "merge":
        said.note("export_device", "`auto` cannot be said: merging is done on the CPU")
