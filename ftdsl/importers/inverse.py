"""The inverse of engines/llamafactory/lowerings: keys that several parameters determine.

`INVERSE` is keyed by the overlay's own rule names; a test holds it complete.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ftdsl.importers.draft import StageDraft
from ftdsl.language.values import Amount, Term

Inverse = Callable[[StageDraft], None]


def nothing(draft: StageDraft) -> None:
    """A rule whose parameters another inverse reads."""


# --- length, rows


def duration(draft: StageDraft) -> None:
    """`max_steps` above 0 wins over epochs (transformers/training_args.py)."""
    if not draft.training:
        return
    steps = draft.raw("max_steps")
    epochs = draft.raw("num_train_epochs")
    if steps is not None and steps > 0:
        draft.set("duration", Amount(steps, "steps"))
        if epochs is not None:
            draft.note("num_train_epochs", f"has no effect: `max_steps: {steps}` wins")
    elif draft.given("num_train_epochs", "max_steps"):
        draft.set("duration", Amount(3.0 if epochs is None else epochs, "epochs"))


def packing(draft: StageDraft) -> None:
    if draft.given("packing", "neat_packing") and draft.training:
        neat, plain = draft.on("neat_packing"), draft.raw("packing")
        if neat:
            draft.set("packing", Term("neat"))
        elif plain is not None or draft.given("neat_packing"):
            draft.set("packing", Term("plain") if plain else False)


def tokenize(draft: StageDraft) -> None:
    path = draft.raw("tokenized_path")
    if path:
        if not draft.may_have("tokenize"):
            draft.note("tokenized_path", f"means nothing in `{draft.kind}`")
            return
        draft.set("tokenize", Term("ahead", {"path": draft.paths.seen(str(path))}))


# --- how it computes


def upcast(draft: StageDraft) -> None:
    names = {"upcast_layernorm": "norms", "upcast_lmhead_output": "logits"}
    if draft.given(*names):
        draft.set("upcast", [Term(part) for name, part in names.items() if draft.on(name)])


def compile(draft: StageDraft) -> None:
    if draft.on("torch_compile"):
        options = {key: draft.raw(f"torch_compile_{key}") for key in ("backend", "mode")}
        given = {key: value for key, value in options.items() if value is not None}
        draft.set("compile", Term("compile", given) if given else True)


def trainable(draft: StageDraft) -> None:
    names = {"freeze_vision_tower": "vision", "freeze_multi_modal_projector": "projector",
             "freeze_language_model": "language"}  # fmt: skip
    if draft.given(*names) and draft.training:
        draft.set("trainable", [Term(part) for name, part in names.items() if not draft.config.on(name)])
        draft.used.update(names)


def checkpointing(draft: StageDraft) -> None:
    if draft.given("disable_gradient_checkpointing", "use_reentrant_gc"):
        reentrant = draft.raw("use_reentrant_gc")
        if draft.on("disable_gradient_checkpointing"):
            draft.set("memory.checkpointing", Term("none"))
        else:
            draft.set("memory.checkpointing", Term("full", {} if reentrant is None else {"reentrant": reentrant}))


def layers(draft: StageDraft) -> None:
    block = next((block for block in ("freeze", "lora") if block in draft.blocks), "")
    count = draft.take("freeze_trainable_layers")
    if draft.on("use_llama_pro") and block:
        draft.set(f"{block}.layers", Term("expanded", {"n": count}))
    elif block == "freeze" and draft.given("freeze_trainable_layers"):
        draft.set("freeze.layers", Term("first" if count < 0 else "last", {"n": abs(count)}))


def oft_rank(draft: StageDraft) -> None:
    rank = draft.raw("oft_rank")
    if rank and "oft" in draft.blocks:
        draft.set("oft.rank", rank)
        if draft.given("oft_block_size"):
            draft.used.add("oft_block_size")  # 0 beside a rank, and lowered as 0 again


def oft_targets(draft: StageDraft) -> None:
    """The modules of OFT are those of `lora_target` (llamafactory/model/adapter.py); `oft_target` is read by nothing."""
    if "oft" not in draft.blocks:
        return
    read = draft.config.items("lora_target")
    if draft.given("oft_target") and draft.config.items("oft_target") != read:
        draft.note("oft_target", "the engine does not read it: the modules of OFT are those of `lora_target`")
    draft.used.update(("lora_target", "oft_target"))
    if draft.given("lora_target"):
        draft.set("oft.targets", read)


# --- tokens


def special(draft: StageDraft) -> None:
    path, tokens = draft.raw("new_special_tokens_config"), draft.raw("add_special_tokens")
    if path:
        draft.set("tokenizer.special", Term("file", {"path": draft.paths.seen(str(path))}))
    elif tokens:
        draft.set("tokenizer.special", str(tokens).split(","))


def token_init(draft: StageDraft) -> None:
    if draft.given("init_special_tokens") and not draft.raw("init_special_tokens"):
        draft.note("init_special_tokens", "`false` is not a value of it: the engine's default counts")
    elif draft.raw("init_special_tokens"):
        how = str(draft.raw("init_special_tokens"))
        noise = {"desc_init_w_noise": {"noise": True}}.get(how, {})
        draft.set("tokenizer.init", Term("noise") if how == "noise_init" else Term("described", noise))


# --- optimiser


def betas(draft: StageDraft) -> None:
    if draft.given("adam_beta1", "adam_beta2"):
        draft.set("optim.betas", [draft.take("adam_beta1"), draft.take("adam_beta2")])


_SCHEDULE_OPTIONS = {"num_cycles": "cycles", "power": "power"}
_WSD = {"num_stable_steps": "stable", "num_decay_steps": "decay"}


def table(value: Any) -> dict[str, Any]:
    """A table, also as the JSON text a command line has; {} for what is none (FT060 says so)."""
    try:
        content = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return {}
    return dict(content) if isinstance(content, dict) else {}


def schedule(draft: StageDraft) -> None:
    """The curve, with what transformers takes as keyword arguments."""
    if not draft.given("lr_scheduler_type", "lr_scheduler_kwargs") or not draft.training:
        return
    name = str(draft.take("lr_scheduler_type"))
    kwargs = table(draft.config.value("lr_scheduler_kwargs"))
    if kwargs:
        draft.used.add("lr_scheduler_kwargs")
    if name == "cosine_with_min_lr":
        name = "cosine"
        if (rate := kwargs.pop("min_lr_rate", None)) is not None:
            draft.set("optim.min_lr", Amount(rate, "share"))
        elif (rate := kwargs.pop("min_lr", None)) is not None:
            draft.set("optim.min_lr", Amount(rate, "rate"))
    options: dict[str, Any] = {}
    if name == "warmup_stable_decay":
        name, options = "wsd", _wsd(draft, kwargs)
    for theirs, ours in _SCHEDULE_OPTIONS.items():
        if theirs in kwargs:
            options[ours] = kwargs.pop(theirs)
    if kwargs:
        draft.note("lr_scheduler_kwargs", f"`{', '.join(kwargs)}` of a schedule cannot be said")
    draft.set("optim.schedule", Term(name, options))


def _wsd(draft: StageDraft, kwargs: dict[str, Any]) -> dict[str, Any]:
    if (floor := kwargs.pop("min_lr_ratio", None)) is not None:
        draft.set("optim.min_lr", Amount(floor, "share"))
    options: dict[str, Any] = {
        ours: Amount(kwargs.pop(theirs), "steps") for theirs, ours in _WSD.items() if theirs in kwargs
    }
    if shape := kwargs.pop("decay_type", None):
        options["shape"] = Term(shape)
    return options


def warmup(draft: StageDraft) -> None:
    """transformers 5 takes a share below 1 as `warmup_steps`; where both are given the ratio wins."""
    if not draft.training:
        return
    known = "warmup_ratio" in draft.config.schema  # else it is taken as steps
    ratio, steps = draft.raw("warmup_ratio") if known else None, draft.raw("warmup_steps")
    if ratio is not None:
        draft.set("optim.warmup", Amount(ratio, "share"))
        if steps:
            draft.note("warmup_steps", f"has no effect: `warmup_ratio: {ratio}` wins in transformers 5")
    elif steps is not None:
        draft.set("optim.warmup", Amount(steps, "share") if 0 < steps < 1 else Amount(steps, "steps"))


# --- saving, evaluating, logging


def _every(draft: StageDraft, key: str, strategy: str, steps: Any) -> bool:
    if strategy == "no":
        draft.set(key, Term("never"))
    elif strategy == "epoch":
        draft.set(key, Amount(1, "epochs"))
    elif strategy == "steps":
        draft.set(key, Amount(steps, "share" if steps < 1 else "steps"))
    else:
        return False
    return True


def save_every(draft: StageDraft) -> None:
    if draft.given("save_strategy", "save_steps") and draft.training:
        strategy = str(draft.take("save_strategy"))
        if not _every(draft, "save.every", strategy, draft.take("save_steps")):
            draft.note("save_strategy", f"`{strategy}` has no word; `save.best_by` keeps the best checkpoint")


def keep(draft: StageDraft) -> None:
    if draft.given("save_total_limit") and draft.training:
        limit = draft.raw("save_total_limit")
        draft.set("save.keep", Term("all") if limit is None else limit)


_METRICS = {"rouge-1": "rouge_1", "rouge-2": "rouge_2", "rouge-l": "rouge_l"}


def _held_out(draft: StageDraft) -> bool:
    """Whether there are rows to evaluate on; a script of a trainer always has a split of them."""
    config = draft.config
    return bool(config.trainer or config.value("val_size") or config.value("eval_dataset"))


def best_by(draft: StageDraft) -> None:
    names = ("load_best_model_at_end", "metric_for_best_model", "greater_is_better")
    if not draft.training:
        return
    if not draft.on("load_best_model_at_end"):
        for name in names[1:]:
            if draft.raw(name) is not None:
                draft.note(name, "has no effect without `load_best_model_at_end`")
        return
    if not _held_out(draft):
        draft.note(
            "load_best_model_at_end",
            "has no effect: there is nothing to evaluate on (no `eval_dataset`, no `val_size`)",
        )
        draft.used.update(names)
        for name in names[1:]:
            draft.reasons.setdefault(name, "there is nothing to evaluate on")
        return
    metric = str(draft.raw("metric_for_best_model") or "loss")
    greater = draft.raw("greater_is_better")
    metric = metric if metric.startswith("eval_") or metric in _METRICS else f"eval_{metric}"
    usual = not metric.endswith("loss")
    name = _METRICS.get(metric, metric)
    order = "highest" if greater else "lowest"
    draft.set("save.best_by", name if greater in (None, usual) else Term(order, {"metric": name}))


def eval_every(draft: StageDraft) -> None:
    """`eval_strategy` counts only with something to evaluate; silent `eval_steps` are `logging_steps`."""
    if not draft.training:
        return
    batch, strategy = draft.raw("per_device_eval_batch_size"), str(draft.take("eval_strategy"))
    steps = draft.raw("eval_steps")
    if not _held_out(draft):
        for name, value in (
            ("eval_strategy", strategy != "no"),
            ("eval_steps", steps),
            ("per_device_eval_batch_size", batch),
        ):
            if value and draft.given(name):
                draft.note(name, "has no effect: there is nothing to evaluate on (no `eval_dataset`, no `val_size`)")
                draft.reasons.setdefault("eval_steps", "there is nothing to evaluate on")
        return
    if not _every(draft, "evaluate.every", strategy, steps or draft.config.value("logging_steps")):
        draft.note("eval_strategy", f"`{strategy}` has no word")
    if strategy != "no":
        draft.set("evaluate.batch", draft.take("per_device_eval_batch_size"))


def metrics(draft: StageDraft) -> None:
    if draft.kind == "eval" or not draft.training:
        return
    metric_terms = [Term("accuracy")] if draft.on("compute_accuracy") else []
    if draft.on("predict_with_generate"):
        metric_terms = [Term("rouge"), Term("bleu")]
    if metric_terms:
        draft.set("evaluate.metrics", metric_terms)


_SWANLAB = {"swanlab_mode": "mode", "swanlab_workspace": "workspace", "swanlab_logdir": "dir"}


def track_to(draft: StageDraft) -> None:
    given = draft.raw("report_to")
    names = given if isinstance(given, list) else [part.strip() for part in str(given).split(",")] if given else []
    if draft.on("use_swanlab") and "swanlab" not in names:
        names = [*[name for name in names if name != "none"], "swanlab"]
    options = {ours: draft.raw(theirs) for theirs, ours in _SWANLAB.items() if draft.raw(theirs) is not None}
    space = draft.raw("trackio_space_id")
    known = {"swanlab": options, "trackio": {"space": space} if space else {}}
    if names and draft.training:
        draft.set("track.to", [Term(str(name), known.get(str(name), {})) for name in names])
    elif names:
        draft.used.update(("report_to", "use_swanlab"))


def track_project(draft: StageDraft) -> None:
    own = draft.setting("project")
    given = draft.raw("project") if own is not None and own.is_explicit else ""
    project = given or draft.raw("swanlab_project") or draft.env("WANDB_PROJECT") or draft.raw("project")
    if project == draft.env("WANDB_PROJECT") != "":
        draft.reasons["project"] = "WANDB_PROJECT says so"
    if project and project != draft.default("project") and draft.training:
        draft.set("track.project", str(project))


def track_name(draft: StageDraft) -> None:
    name = draft.raw("run_name") or draft.raw("swanlab_run_name")
    if name and draft.training:
        draft.set("track.name", str(name))


def log_every(draft: StageDraft) -> None:
    steps = draft.raw("logging_steps")
    if str(draft.config.value("logging_strategy")) != "steps":
        draft.reasons["logging_steps"] = "`logging_strategy` decides"
        return
    if steps is not None and draft.training:
        draft.set("track.every", Amount(steps, "share" if steps < 1 else "steps"))


def logging_dir(draft: StageDraft) -> None:
    if path := draft.raw("logging_dir"):
        draft.set("track.dir", draft.paths.seen(str(path)))
        draft.reasons["logging_dir"] = "a variable of the stage, TENSORBOARD_LOGGING_DIR"


def guard(draft: StageDraft) -> None:
    """The engine's filter hides NaN; a recipe never does (docs/import.md)."""
    draft.used.add("logging_nan_inf_filter")


# --- answers


def temperature(draft: StageDraft) -> None:
    """`do_sample: false` is temperature 0. What the engine does in silence is written out (0.95, 0.7, 50)."""
    scored = draft.training or draft.kind == "eval"
    if scored and draft.kind != "ppo" and not draft.config.on("predict_with_generate"):
        _unread_sampling(draft)
        return
    if not draft.may_have("generate.temperature"):
        return
    if draft.kind not in ("eval", "ppo") and not draft.given("temperature", "do_sample", "top_p", "top_k"):
        return
    if not draft.take("do_sample"):
        draft.set("generate.temperature", 0)
        for name in ("temperature", "top_p", "top_k"):
            draft.used.add(name)
        return
    for key in ("temperature", "top_p", "top_k"):
        draft.set(f"generate.{key}", draft.take(key))


_SAMPLING = ("temperature", "do_sample", "top_p", "top_k", "max_new_tokens", "max_length", "repetition_penalty", "length_penalty",
             "num_beams", "eval_num_beams", "skip_special_tokens")  # fmt: skip


UNREAD_SAMPLING = "has no effect: nothing is generated without `predict_with_generate`"


def _unread_sampling(draft: StageDraft) -> None:
    """Answers are generated only with `predict_with_generate`."""
    for name in _SAMPLING:
        if draft.given(name):
            draft.note(name, UNREAD_SAMPLING)
    if draft.given(*_SAMPLING):
        draft.reasons |= dict.fromkeys(_SAMPLING, UNREAD_SAMPLING)


def beams(draft: StageDraft) -> None:
    if draft.used >= {name for name in ("eval_num_beams", "num_beams") if draft.given(name)}:
        return
    beams = draft.raw("eval_num_beams") or draft.raw("num_beams")
    if beams and draft.may_have("generate.beams"):
        draft.set("generate.beams", beams)


def eval_stage(draft: StageDraft) -> None:
    """What an `eval` stage measures: losses (`do_eval`), answers (`do_predict` with `predict_with_generate`)."""
    draft.used.update(("do_eval", "do_predict"))
    if draft.kind != "eval":
        return
    metric_terms = [Term("loss")] if draft.on("do_eval") else []
    metric_terms += [Term("accuracy")] if draft.on("compute_accuracy") else []
    if draft.on("predict_with_generate"):
        metric_terms += [Term("rouge"), Term("bleu")]
    draft.set("metrics", metric_terms or [Term("loss")])


# --- resuming, uploading


def resume(draft: StageDraft) -> None:
    where, over = draft.raw("resume_from_checkpoint"), draft.on("overwrite_output_dir")
    if not draft.training:
        return
    if isinstance(where, str) and where.lower() not in ("true", "false"):
        draft.set("resume", Term("file", {"path": draft.paths.seen(where)}))
    elif over:
        draft.set("resume", Term("never"))


def push(draft: StageDraft) -> None:
    if draft.kind in ("merge", "quantize"):
        if where := draft.raw("export_hub_model_id"):
            draft.set("push", Term("hf", {"id": where}))
        return
    names = {"hub_private_repo": "private", "hub_revision": "revision"}
    if not draft.on("push_to_hub"):
        for name in ("hub_model_id", "hub_strategy", *names):
            if draft.raw(name) not in (None, draft.default(name)):
                draft.note(name, "has no effect without `push_to_hub`")
        return
    when = {"every_save": "save", "end": "end"}.get(str(draft.raw("hub_strategy")))
    if draft.given("hub_strategy") and when is None:
        draft.note("hub_strategy", f"`{draft.raw('hub_strategy')}` has no word: `when` is `end` or `save`")
    options = {ours: draft.raw(theirs) for theirs, ours in names.items() if draft.raw(theirs) is not None}
    where = draft.raw("hub_model_id") or str(draft.config.value("output_dir")).rstrip("/").rpartition("/")[2]
    draft.set("push", Term("hf", {"id": where, **options, **({"when": Term(when)} if when else {})}))


def export_device(draft: StageDraft) -> None:
    device = draft.raw("export_device")
    if device not in (None, "cpu") and draft.kind == "merge":
        draft.note("export_device", f"`{device}` cannot be said: merging is done on the CPU")
