"""DeepSpeed: its file, and whether it agrees with the engine's parameters."""

from __future__ import annotations

from typing import Any

from ftdsl import catalog
from ftdsl.lint.config import Config, Document
from ftdsl.lint.edits import drop, put, written
from ftdsl.lint.rule import EVERY, Findings, error, rule, warning


def own(config: Config) -> Document | None:
    """The author's DeepSpeed document; None without one, or if it was generated from a recipe."""
    return config.deepspeed if config.deepspeed is not None and not config.deepspeed.ours else None


def authored(config: Config) -> Document | None:
    """The DeepSpeed document if the author wrote it, or keys of it (`deepspeed { }` in a recipe)."""
    document = config.deepspeed
    return document if document is not None and (document.settings or not document.ours) else None


@rule("FT401", EVERY)
def batch_equation(config: Config) -> Findings:
    """What it does: checks the batch equation: train batch = micro batch x accumulation x ranks.
    Why it matters: DeepSpeed asserts it when its engine is initialised, on every rank, after the model is loaded.
    Example:
        # with: gpus=8
        deepspeed: ds_config.json
        per_device_train_batch_size: 4
        gradient_accumulation_steps: 2
        # file: ds_config.json
        {"train_batch_size": 32, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2,
         "zero_optimization": {"stage": 2}}
    Use instead:
        # with: gpus=8
        deepspeed: ds_config.json
        per_device_train_batch_size: 4
        gradient_accumulation_steps: 2
        # file: ds_config.json
        {"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto",
         "gradient_accumulation_steps": "auto", "zero_optimization": {"stage": 2}}
    Applies to: DeepSpeed
    Source: deepspeed/runtime/config.py, _batch_assertion (0.19.8); DeepSpeed#3982
    """
    document = own(config)
    if document is None:
        return
    total = document.get("train_batch_size")
    micro = _number(document.get("train_micro_batch_size_per_gpu"), config.number("per_device_train_batch_size"))
    steps = _number(document.get("gradient_accumulation_steps"), config.number("gradient_accumulation_steps"))
    world = config.launch.world if config.launch else 0
    if not isinstance(total, int) or not micro or not steps:
        return
    at = document.at("train_batch_size")
    if world and total != micro * steps * world:
        label = f"{micro:g} micro x {steps:g} accumulate x {world} ranks = {micro * steps * world:g}"
        yield error(
            at,
            f"`train_batch_size` is {total}, but its factors give {micro * steps * world:g}",
            label=label,
            help='write "auto"',
            fix=put(at, '"auto"'),
        )
    elif not world and total % (micro * steps):
        label = f"{micro:g} micro x {steps:g} accumulate = {micro * steps:g} a rank"
        yield error(
            at,
            f"`train_batch_size` {total} is not a multiple of {micro * steps:g}",
            label=label,
            help='write "auto"',
            fix=put(at, '"auto"'),
        )


def _number(value: Any, otherwise: float | None) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else otherwise


PAIRS = (
    ("train_micro_batch_size_per_gpu", "per_device_train_batch_size"),
    ("gradient_accumulation_steps", "gradient_accumulation_steps"),
    ("gradient_clipping", "max_grad_norm"),
    ("optimizer.params.lr", "learning_rate"),
    ("optimizer.params.eps", "adam_epsilon"),
    ("optimizer.params.weight_decay", "weight_decay"),
    ("scheduler.params.warmup_max_lr", "learning_rate"),
    ("scheduler.params.warmup_num_steps", "warmup_steps"),
    ("scheduler.params.total_num_steps", "max_steps"),
    ("fp16.enabled", "fp16"),
    ("bf16.enabled", "bf16"),
)
"""Pairs that transformers requires to be equal (transformers/integrations/deepspeed.py, trainer_config_process)."""


@rule("FT402", EVERY)
def two_files_disagree(config: Config) -> Findings:
    """What it does: compares each value of the DeepSpeed file with the parameter of the same meaning.
    Why it matters: transformers rejects every pair that differs, after the model is loaded; a number written as a
        string differs too.
    Example:
        deepspeed: ds_config.json
        per_device_train_batch_size: 2
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": 4, "zero_optimization": {"stage": 2}}
        ---
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "bf16": {"enabled": false}, "zero_optimization": {"stage": 2}}
        ---
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "1", "zero_optimization": {"stage": 2}}
    Use instead:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "bf16": {"enabled": "auto"}, "zero_optimization": {"stage": 2}}
    Applies to: transformers, DeepSpeed
    Source: transformers/integrations/deepspeed.py, fill_match (5.6.0); LLaMA-Factory#1116
    """
    document = authored(config)
    if document is None or config.kind != "train" or not config.settings:
        return
    for path, name in PAIRS:
        if document.ours and path not in document.settings:
            continue
        theirs = document.get(path)
        if theirs is None or theirs == "auto" or (name == "max_steps" and (config.number(name) or -1) < 0):
            continue
        ours = config.on(name) if name in ("fp16", "bf16") else config.number(name)
        if theirs == ours and not isinstance(theirs, str):
            continue
        at, other = document.at(path), config.at(name)
        if isinstance(theirs, str):
            wanted = "true or false" if name in ("fp16", "bf16") else "a number"
            yield error(at, f"`{path}` must be {wanted}, not a string", help='write "auto"', fix=put(at, '"auto"'))
            continue
        shown = written(ours) if isinstance(ours, bool) else f"{ours:g}" if ours is not None else "unset"
        label = f"`{other.word}` is {shown}"
        yield error(
            at,
            f"`{path}` is {written(theirs)} here and {shown} in the run",
            label=label,
            also=((other, "the other"),) if other.key else (),
            help='write "auto"',
            fix=put(at, '"auto"'),
        )


@rule("FT406", EVERY)
def deepspeed_precision_conflict(config: Config) -> Findings:
    """What it does: finds both fp16 and bf16 in the DeepSpeed file, and a file that contradicts accelerate's mixed
        precision.
    Why it matters: DeepSpeed and accelerate stop when the engine is initialised.
    Example:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "fp16": {"enabled": true}, "bf16": {"enabled": true},
         "zero_optimization": {"stage": 2}}
        ---
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "fp16": {"enabled": true}, "zero_optimization": {"stage": 2}}
        # file: accelerate.yaml
        mixed_precision: bf16
    Use instead:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "fp16": {"enabled": "auto"}, "bf16": {"enabled": "auto"},
         "zero_optimization": {"stage": 2}}
    Applies to: DeepSpeed, accelerate
    Source: deepspeed/runtime/config.py:827; accelerate/utils/dataclasses.py, set_mixed_precision (1.11.0)
    """
    document = own(config)
    if document is None:
        return
    on = [name for name in ("fp16", "bf16") if document.get(f"{name}.enabled") is True]
    if len(on) == 2:
        at = document.at("fp16.enabled")
        yield error(
            at,
            "fp16 and bf16 are both on",
            also=((document.at("bf16.enabled"), "and here"),),
            help='write "auto" for both',
            fix=put(at, '"auto"'),
        )
    mixed = config.accelerate.get("mixed_precision") if config.accelerate else None
    other = {"bf16": "fp16", "fp8": "fp16", "fp16": "bf16"}.get(str(mixed), "")
    if other in on and config.accelerate:
        at = document.at(f"{other}.enabled")
        accelerate_setting = config.accelerate.at("mixed_precision")
        yield error(
            at,
            f"accelerate is set to {mixed}, but DeepSpeed to {other}",
            also=((accelerate_setting, "accelerate's setting"),),
            help='write "auto"',
            fix=put(at, '"auto"'),
        )


@rule("FT408", EVERY)
def offload_not_supported(config: Config) -> Findings:
    """What it does: finds offloading that the ZeRO stage does not support: parameters or a part of the optimiser below
        stage 3, anything at stage 0.
    Why it matters: DeepSpeed asserts it when its engine is initialised, or ignores it.
    Example:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto",
         "zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}}
        ---
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto",
         "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu", "ratio": 0.5}}}
    Use instead:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto",
         "zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}}}
    Applies to: DeepSpeed
    Source: deepspeed/runtime/zero/config.py:396 (0.19.8); runtime/engine.py, zero_cpu_offload
    """
    document = config.deepspeed
    if document is None or config.zero is None or document.ours:
        return
    zero = "zero_optimization"
    if document.get(f"{zero}.offload_param.device") in ("cpu", "nvme") and config.zero < 3:
        at = document.at(f"{zero}.offload_param")
        yield error(
            at,
            f"ZeRO-{config.zero} does not shard parameters and cannot offload them",
            help='write `"stage": 3`, or drop it',
            fix=drop(at, safe=False),
        )
    ratio = document.get(f"{zero}.offload_optimizer.ratio", 1)
    if isinstance(ratio, int | float) and ratio < 1 and config.zero < 3:
        at = document.at(f"{zero}.offload_optimizer.ratio")
        yield error(
            at,
            f"ZeRO-{config.zero} can only offload the whole optimiser",
            help="drop `ratio`, or use stage 3",
            fix=drop(at),
        )
    if document.get(f"{zero}.offload_optimizer.device") in ("cpu", "nvme") and config.zero == 0:
        at = document.at(f"{zero}.offload_optimizer")
        yield error(at, "without ZeRO there is no sharded optimiser state to offload", help='write `"stage": 2`')


@rule("FT409", EVERY)
def untested_optimiser(config: Config) -> Findings:
    """What it does: finds an optimiser that DeepSpeed does not list as tested with ZeRO, without
        `zero_allow_untested_optimizer`.
    Why it matters: DeepSpeed asserts it when its engine is initialised.
    Example:
        deepspeed: ds_config.json
        optim: adafactor
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2}}
    Use instead:
        deepspeed: ds_config.json
        optim: adafactor
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_allow_untested_optimizer": true,
         "zero_optimization": {"stage": 2}}
    Applies to: DeepSpeed
    Source: deepspeed/runtime/engine.py:2298, 2342 (0.19.8)
    """
    document = own(config)
    if document is None or not config.zero or document.get("optimizer") is not None or config.kind != "train":
        return
    tested = catalog.facts("deepspeed")["tested"]
    if (
        config.has("optim")
        and config.value("optim") not in tested
        and document.get("zero_allow_untested_optimizer") is not True
    ):
        at = config.at("optim")
        yield error(
            at,
            f"DeepSpeed rejects `{config.value('optim')}` under ZeRO unless `zero_allow_untested_optimizer` is true",
            help='write `"zero_allow_untested_optimizer": true` in the DeepSpeed file',
        )


@rule("FT418", EVERY)
def batch_search_with_zero3(config: Config) -> Findings:
    """What it does: finds `auto_find_batch_size` with ZeRO-3.
    Why it matters: transformers stops when the trainer is created, after the model is loaded.
    Example:
        auto_find_batch_size: true
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
    Use instead:
        auto_find_batch_size: true
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2}}
    Applies to: transformers
    Source: transformers/trainer.py:847 (5.6.0)
    """
    if config.on("auto_find_batch_size") and config.zero == 3:
        at = config.at("auto_find_batch_size")
        yield error(
            at,
            f"ZeRO-3 does not support `{at.word}`",
            help="set the batch size, or use ZeRO-2",
            fix=drop(at, safe=False),
        )


@rule("FT426", EVERY)
def deepspeed_batch_missing(config: Config) -> Findings:
    """What it does: finds a DeepSpeed file without a batch size.
    Why it matters: DeepSpeed asserts that `train_batch_size` or `train_micro_batch_size_per_gpu` is set; "auto" is
        enough.
    Example:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"zero_optimization": {"stage": 2}}
    Use instead:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2}}
    Applies to: DeepSpeed
    Source: deepspeed/runtime/config.py, _set_batch_related_parameters (0.19.8)
    """
    document = own(config)
    if document is None or not document.data:
        return
    if document.get("train_batch_size") is None and document.get("train_micro_batch_size_per_gpu") is None:
        at = document.at("zero_optimization")
        yield error(
            at, "the DeepSpeed file sets no batch size", help='write `"train_micro_batch_size_per_gpu": "auto"`'
        )


@rule("FT427", EVERY)
def weights_not_gathered(config: Config) -> Findings:
    """What it does: finds ZeRO-3 and tensor parallelism (AutoTP) that do not gather the weights when saving.
    Why it matters: checkpoints of ZeRO-3 then hold shards that only `zero_to_fp32.py` can merge; AutoTP writes no
        model at all, although the run succeeds.
    Example:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto",
         "zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": false}}
        ---
        finetuning_type: full
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "tensor_parallel": {"autotp_size": 2},
         "zero_optimization": {"stage": 1}}
    Use instead:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto",
         "zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": true}}
        ---
        finetuning_type: full
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "tensor_parallel": {"autotp_size": 2},
         "zero_optimization": {"stage": 1, "gather_16bit_weights_on_model_save": true}}
    Applies to: DeepSpeed, transformers
    Source: transformers/trainer.py, save_model (5.6.0); deepspeed/runtime/zero/config.py
    """
    name = "zero_optimization.stage3_gather_16bit_weights_on_model_save"
    document = own(config)
    if document is not None and config.zero == 3 and document.get(name) is False:
        at = document.at(name)
        yield warning(
            at,
            "checkpoints stay sharded: only zero_to_fp32.py can read them",
            help="write true",
            fix=put(at, "true"),
        )
    size = document.get("tensor_parallel.autotp_size") if document is not None else 0
    gather = "zero_optimization.gather_16bit_weights_on_model_save"
    if document is not None and isinstance(size, int) and size > 1 and document.get(gather) is not True:
        at = document.at("tensor_parallel.autotp_size")
        yield error(
            at,
            "sharded tensors are not gathered when saving: no model would be written",
            help='write `"gather_16bit_weights_on_model_save": true` into `zero_optimization`',
        )


@rule("FT428", EVERY)
def no_zero_section(config: Config) -> Findings:
    """What it does: finds a DeepSpeed file without `zero_optimization`.
    Why it matters: accelerate stops without it, even if ZeRO is off; `{"stage": 0}` turns it off.
    Example:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "bf16": {"enabled": "auto"}}
    Use instead:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 0}}
    Applies to: accelerate
    Source: accelerate/utils/dataclasses.py, DeepSpeedPlugin.__post_init__ (1.11.0, run)
    """
    document = own(config)
    if document is not None and document.data and "zero_optimization" not in document.data:
        near = [name for name in document.data if "zero" in name]
        at = document.at(next(iter(document.data)))
        if not near:
            yield error(
                at,
                "the DeepSpeed file has no `zero_optimization`",
                help='write `"zero_optimization": {"stage": 0}`, or a higher stage',
            )
