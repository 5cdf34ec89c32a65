"""DeepSpeed: its own document, and how it agrees with the parameters beside it."""

from __future__ import annotations

from typing import Any

from ftdsl import catalog
from ftdsl.lint.config import Config, Document
from ftdsl.lint.edits import drop, put, written
from ftdsl.lint.rule import Found, error, rule, warning


def own(config: Config) -> Document | None:
    """The author's DeepSpeed document; None without one, or when it was written from a recipe."""
    return config.deepspeed if config.deepspeed is not None and not config.deepspeed.ours else None


@rule("FT401")
def batch_equation(config: Config) -> Found:
    """What it does: works out the batch equation: train batch = micro batch x accumulation x ranks.
    Why it matters: DeepSpeed asserts it when the engine is made, on every rank, after the model was loaded.
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
            at, f"a batch of {total} cannot be made up", label=label, help='write "auto"', fix=put(at, '"auto"')
        )
    elif not world and total % (micro * steps):
        label = f"{micro:g} micro x {steps:g} accumulate = {micro * steps:g} a rank"
        yield error(
            at, f"no number of ranks makes a batch of {total}", label=label, help='write "auto"', fix=put(at, '"auto"')
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
"""What transformers holds against each other (transformers/integrations/deepspeed.py, trainer_config_process)."""


@rule("FT402")
def two_files_disagree(config: Config) -> Found:
    """What it does: holds each value of the DeepSpeed file against the parameter that says the same.
    Why it matters: transformers refuses every pair that differs, after the model was loaded; a number written
        as text differs too.
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
    document = own(config)
    if document is None or config.kind != "train" or not config.settings:
        return
    for path, name in PAIRS:
        theirs = document.get(path)
        if theirs is None or theirs == "auto" or (name == "max_steps" and (config.number(name) or -1) < 0):
            continue
        ours = config.on(name) if name in ("fp16", "bf16") else config.number(name)
        if theirs == ours and not isinstance(theirs, str):
            continue
        at, other = document.at(path), config.at(name)
        if isinstance(theirs, str):
            wants = "true or false" if name in ("fp16", "bf16") else "a number"
            yield error(
                at, f"`{path}` is a text, and DeepSpeed wants {wants}", help='write "auto"', fix=put(at, '"auto"')
            )
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


@rule("FT406")
def deepspeed_precision(config: Config) -> Found:
    """What it does: finds fp16 and bf16 both on in the DeepSpeed file, and a file that contradicts accelerate's
        mixed precision.
    Why it matters: DeepSpeed and accelerate stop on it when the engine is made.
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
        said = config.accelerate.at("mixed_precision")
        yield error(
            at,
            f"accelerate computes in {mixed}, and DeepSpeed in {other}",
            also=((said, "said here"),),
            help='write "auto"',
            fix=put(at, '"auto"'),
        )


@rule("FT408")
def offload_not_here(config: Config) -> Found:
    """What it does: finds offload that ZeRO's stage cannot do: parameters below stage 3, a part of the
        optimiser below stage 3, anything at stage 0 or 1.
    Why it matters: DeepSpeed asserts it when the engine is made, or ignores it.
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
            f"ZeRO-{config.zero} does not split parameters, and cannot move them",
            help='write `"stage": 3`, or drop it',
            fix=drop(at, safe=False),
        )
    ratio = document.get(f"{zero}.offload_optimizer.ratio", 1)
    if isinstance(ratio, int | float) and ratio < 1 and config.zero < 3:
        at = document.at(f"{zero}.offload_optimizer.ratio")
        yield error(
            at,
            f"ZeRO-{config.zero} moves the whole optimiser or nothing",
            help="drop `ratio`, or use stage 3",
            fix=drop(at),
        )
    if document.get(f"{zero}.offload_optimizer.device") in ("cpu", "nvme") and config.zero == 0:
        at = document.at(f"{zero}.offload_optimizer")
        yield error(at, "without ZeRO there is no optimiser state to move", help='write `"stage": 2`')


@rule("FT409")
def untested_optimiser(config: Config) -> Found:
    """What it does: wants `zero_allow_untested_optimizer` where the optimiser is not one that DeepSpeed has
        tried with ZeRO, and `zero_force_ds_cpu_optimizer: false` where it is moved to the CPU.
    Why it matters: DeepSpeed asserts the first and raises on the second when the engine is made.
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
            f"DeepSpeed has not tried `{config.value('optim')}` with ZeRO, and asks for leave",
            help='write `"zero_allow_untested_optimizer": true` in the DeepSpeed file',
        )


@rule("FT418")
def batch_search_with_zero3(config: Config) -> Found:
    """What it does: finds `auto_find_batch_size` with ZeRO-3.
    Why it matters: transformers stops on it when the trainer is made, the model already loaded.
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
            f"`{at.word}` does not work with ZeRO-3",
            help="set the batch yourself, or use ZeRO-2",
            fix=drop(at, safe=False),
        )


@rule("FT426")
def batch_in_no_file(config: Config) -> Found:
    """What it does: wants a batch in the DeepSpeed file.
    Why it matters: DeepSpeed asserts that one of `train_batch_size` and `train_micro_batch_size_per_gpu` is
        there; "auto" will do.
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
        yield error(at, "the DeepSpeed file names no batch", help='write `"train_micro_batch_size_per_gpu": "auto"`')


@rule("FT427")
def weights_left_in_pieces(config: Config) -> Found:
    """What it does: finds ZeRO-3 and tensor parallelism (AutoTP) that do not gather the weights when they save.
    Why it matters: checkpoints of ZeRO-3 then hold pieces that only `zero_to_fp32.py` puts together; AutoTP writes no
        model at all, and the run ends well.
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
            "what is saved stays in pieces, which nothing but zero_to_fp32.py reads",
            help="write true",
            fix=put(at, "true"),
        )
    size = document.get("tensor_parallel.autotp_size") if document is not None else 0
    gather = "zero_optimization.gather_16bit_weights_on_model_save"
    if document is not None and isinstance(size, int) and size > 1 and document.get(gather) is not True:
        at = document.at("tensor_parallel.autotp_size")
        yield error(
            at,
            "tensors are split and not gathered when they are saved: no model would be written",
            help='write `"gather_16bit_weights_on_model_save": true` into `zero_optimization`',
        )


@rule("FT428")
def no_zero_section(config: Config) -> Found:
    """What it does: wants `zero_optimization` in the DeepSpeed file.
    Why it matters: accelerate stops without it, even where ZeRO is not wanted; `{"stage": 0}` says that.
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
                "the DeepSpeed file says nothing of ZeRO",
                help='write `"zero_optimization": {"stage": 0}`, or a higher stage',
            )
