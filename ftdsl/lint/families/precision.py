"""Precision and attention."""

from __future__ import annotations

from ftdsl import catalog
from ftdsl.lint.config import Config
from ftdsl.lint.edits import add, drop, put
from ftdsl.lint.rule import EVERY, Findings, error, rule, warning


def model_of(config: Config) -> str:
    """The model's name or path in lower case."""
    return str(config.value("model_name_or_path") or "").lower()


@rule("FT201", EVERY)
def fp16_and_bf16(config: Config) -> Findings:
    """What it does: finds more than one precision.
    Why it matters: transformers stops on `fp16` with `bf16`; `pure_bf16` with `fp16` is accepted, and scales
        gradients that need no scaling.
    Example:
        fp16: true
        bf16: true
        ---
        bf16: false
        fp16: true
        pure_bf16: true
    Use instead:
        bf16: true
    Applies to: transformers, LLaMA-Factory
    Source: transformers/training_args.py:1741 (5.6.0); LLaMA-Factory 0.9.5 accepts the second
    """
    if not config.on("fp16"):
        return
    for name in ("bf16", "pure_bf16"):
        if config.on(name):
            at, other = config.at("fp16"), config.at(name)
            fix = drop(at) if config.form != "recipe" else None
            yield error(
                at,
                f"`{at.word}` and `{other.word}` are both on",
                also=((other, "and here"),),
                help="keep one of them",
                fix=fix,
            )


@rule("FT209")
def fp8_not_enabled(config: Config) -> Findings:
    """What it does: finds the FP8 all-gather without FP8.
    Why it matters: LLaMA-Factory logs that it enables FP8, but sets the flag on the wrong object and trains without.
    Example:
        fp8_enable_fsdp_float8_all_gather: true
    Use instead:
        fp8: true
        fp8_enable_fsdp_float8_all_gather: true
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:453: `model_args.fp8 = True`, while `training_args.fp8` is read
        (0.9.5, run)
    """
    name = "fp8_enable_fsdp_float8_all_gather"
    if config.on(name) and not config.on("fp8"):
        at = config.at(name)
        yield error(
            at,
            "this does not enable FP8, although LLaMA-Factory logs that it does",
            help="write `fp8: true` as well",
            fix=add(config, at, "fp8", True),
        )


@rule("FT210")
def fp8_gather_needs_fsdp2(config: Config) -> Findings:
    """What it does: finds the FP8 all-gather without FSDP 2.
    Why it matters: only FSDP 2 gathers in 8 bits; elsewhere the option has no effect.
    Example:
        fp8: true
        fp8_enable_fsdp_float8_all_gather: true
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 1}
    Use instead:
        fp8: true
        fp8_enable_fsdp_float8_all_gather: true
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 2}
    Applies to: LLaMA-Factory, torchao
    Source: llamafactory/train/fp8_utils.py (0.9.5); torchao float8, FSDP2 only
    """
    at = config.at("fp8_enable_fsdp_float8_all_gather")
    if config.on(at.name) and config.on("fp8") and (config.fsdp == 1 or config.deepspeed is not None):
        yield error(at, f"`{at.word}` needs FSDP 2", help="write `fsdp_version: 2`, or drop it", fix=drop(at))


@rule("FT211", EVERY)
def gpu_too_old(config: Config) -> Findings:
    """What it does: checks precision and attention against the GPU: bf16, TF32 and FlashAttention 2 need compute
        capability 8.0, FP8 needs 8.9.
    Why it matters: transformers stops on bf16 and TF32; FlashAttention fails in its first step.
    Example:
        # with: gpu=v100, gpus=1
        bf16: true
        ---
        # with: gpu=v100, gpus=1
        bf16: false
        fp16: true
        flash_attn: fa2
        ---
        # with: gpu=a100, gpus=1
        fp8: true
    Use instead:
        # with: gpu=v100, gpus=1
        bf16: false
        fp16: true
        flash_attn: sdpa
    Applies to: all
    Source: LLaMA-Factory#3508; flash-attention#762; transformers/training_args.py:1733 (5.6.0); makers' data sheets
    """
    known = catalog.gpus().get(config.gpu or "")
    if known is None or not config.gpu:
        return
    for name in ("bf16", "pure_bf16"):
        if config.on(name) and not known.bf16:
            at = config.at(name)
            yield error(
                at,
                f"{config.gpu} does not support bf16",
                help="write `precision = fp16`" if config.form == "recipe" else "write `fp16: true`",
            )
    if 0 < known.capability < 8:
        if config.on("tf32"):
            yield error(
                config.at("tf32"), f"{config.gpu} does not support TF32", help="drop it", fix=drop(config.at("tf32"))
            )
        flash = {"flash_attn": "fa2", "attn_implementation": "flash_attention_2"}
        for name in [name for name, value in flash.items() if config.value(name) == value]:
            at = config.at(name)
            yield error(
                at,
                f"FlashAttention 2 does not support {config.gpu}",
                label=f"compute capability {known.capability:.1f}; 8.0 is needed",
                help="use sdpa",
                fix=put(at, "sdpa"),
            )
    if config.on("fp8") and not known.fp8:
        yield error(config.at("fp8"), f"{config.gpu} does not support FP8", help="use bf16")


@rule("FT212")
def pure_bf16_with_zero3(config: Config) -> Findings:
    """What it does: finds `pure_bf16` with ZeRO-3.
    Why it matters: LLaMA-Factory stops while parsing its arguments.
    Example:
        pure_bf16: true
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
    Use instead:
        bf16: true
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:505 (0.9.5)
    """
    if config.on("pure_bf16") and config.zero == 3:
        yield error(
            config.at("pure_bf16"),
            "ZeRO-3 does not support `pure_bf16`",
            help="use bf16, which keeps fp32 master weights, or ZeRO-2",
        )


@rule("FT216", EVERY)
def fp16_on_cpu(config: Config) -> Findings:
    """What it does: finds `fp16` in a run on the CPU.
    Why it matters: accelerate silently ignores it there, and computes in fp32.
    Example:
        use_cpu: true
        fp16: true
        bf16: false
    Use instead:
        use_cpu: true
        bf16: true
    Applies to: accelerate
    Source: accelerate/accelerator.py:563-569 (1.11.0): no autocast on a CPU
    """
    if config.on("fp16") and config.on("use_cpu"):
        at = config.at("fp16")
        bf16 = f"{at.word} = bf16" if at.word == "precision" else "bf16: true"
        yield error(
            at, "a CPU does not support fp16: the engine would train in fp32", help=f"write `{bf16}`, or drop it"
        )


@rule("FT213")
def no_mixed_precision(config: Config) -> Findings:
    """What it does: finds training on a GPU without mixed precision, and quantised training without fp32 norms.
    Why it matters: without `bf16` or `fp16` the trained weights are stored and computed in fp32: more memory, a
        fraction of the speed. Frozen weights keep the type of the checkpoint. Norms of a quantised model are
        unstable in half precision; LLaMA-Factory recommends `upcast_layernorm`.
    Example:
        bf16: false
        ---
        quantization_bit: 4
        upcast_layernorm: false
    Use instead:
        bf16: true
        ---
        quantization_bit: 4
        upcast_layernorm: true
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:466-470 (0.9.5) warns
    """
    if not config.trains or config.gpu == "" or config.on("use_cpu"):
        return
    if not (config.on("bf16") or config.on("fp16") or config.on("pure_bf16") or config.on("fp8")):
        at = config.first("bf16", "fp16", "output_dir")
        if (
            not config.is_explicit("precision")
            and config.form != "recipe"
            and config.deepspeed is None
            and config.accelerate is None
        ):
            yield warning(
                at,
                "no mixed precision: trained weights are fp32, frozen weights keep the type of the checkpoint",
                help="write `bf16: true`",
                fix=add(config, config.first("output_dir"), "bf16", True)
                if not config.has("bf16")
                else put(at, "true"),
            )
    if config.has("quantization_bit") and not config.on("upcast_layernorm") and config.form != "recipe":
        at = config.at("quantization_bit")
        yield warning(
            at,
            "the norms of a quantised model should be in fp32",
            help="write `upcast_layernorm: true`",
            fix=add(config, at, "upcast_layernorm", True) if not config.has("upcast_layernorm") else None,
        )


@rule("FT215")
def sdpa_not_supported(config: Config) -> Findings:
    """What it does: finds SDPA with models whose attention it does not implement: Gemma 2 caps its logits, Youtu-VL
        falls back to eager.
    Why it matters: the model runs, but its attention scores differ from those it was trained with.
    Example:
        model_name_or_path: google/gemma-2-9b-it
        template: gemma2
        flash_attn: sdpa
    Use instead:
        model_name_or_path: google/gemma-2-9b-it
        template: gemma2
        flash_attn: fa2
    Applies to: LLaMA-Factory, transformers
    Source: llamafactory/model/model_utils/attention.py:46-63 (0.9.5)
    """
    if config.value("flash_attn") != "sdpa":
        return
    at, name = config.at("flash_attn"), model_of(config)
    if "gemma-2-" in name:
        yield warning(
            at, "Gemma 2 caps its attention logits, which sdpa does not do", help="use FlashAttention 2, or eager"
        )
    elif "youtu-vl" in name:
        yield warning(
            at,
            "Youtu-VL does not support sdpa; LLaMA-Factory falls back to eager",
            help="write `flash_attn: disabled`",
            fix=put(at, "disabled"),
        )


@rule("FT220")
def flash_attention_3_not_supported(config: Config) -> Findings:
    """What it does: finds `flash_attn: fa3`, which LLaMA-Factory supports for gpt-oss only.
    Why it matters: the engine accepts it when it reads the file, and stops when it configures the model.
    Example:
        flash_attn: fa3
    Use instead:
        flash_attn: fa2
    Applies to: LLaMA-Factory
    Source: llamafactory/model/model_utils/attention.py:36-44, 86 (0.9.5, run)
    """
    if config.value("flash_attn") == "fa3" and "gpt-oss" not in model_of(config) and "/" in model_of(config):
        at = config.at("flash_attn")
        yield error(
            at,
            "LLaMA-Factory supports FlashAttention 3 for gpt-oss only",
            help="use FlashAttention 2",
            fix=put(at, "flash2" if config.form == "recipe" else "fa2"),
        )


@rule("FT217")
def slow_convolution(config: Config) -> Findings:
    """What it does: finds torch 2.9 with a model whose vision tower is a 3D convolution.
    Why it matters: that convolution is very slow in 2.9; LLaMA-Factory stops after loading the model.
    Example:
        # with: torch=2.9.1
        model_name_or_path: Qwen/Qwen2.5-VL-7B-Instruct
        template: qwen2_vl
    Use instead:
        # with: torch=2.10.0
        model_name_or_path: Qwen/Qwen2.5-VL-7B-Instruct
        template: qwen2_vl
    Applies to: LLaMA-Factory with torch 2.9
    Source: llamafactory/model/loader.py:200 (0.9.5)
    """
    version = config.version("torch")
    if (2, 9) <= version < (2, 10) and config.value("template") in catalog.facts("templates")["conv3d"]:
        yield error(
            config.at("model_name_or_path"),
            "LLaMA-Factory rejects this model with torch 2.9",
            label="its vision tower is a 3D convolution",
            help="install torch 2.10, or 2.8",
        )


@rule("FT221")
def shift_attention_with_ppo(config: Config) -> Findings:
    """What it does: finds `shift_attn` with PPO.
    Why it matters: LLaMA-Factory stops while parsing its arguments.
    Example:
        stage: ppo
        reward_model: saves/rm
        shift_attn: true
    Use instead:
        stage: ppo
        reward_model: saves/rm
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:440 (0.9.5)
    """
    if config.stage == "ppo" and config.on("shift_attn") and config.kind == "train":
        at = config.at("shift_attn")
        yield error(at, "PPO does not support shifted sparse attention", help="drop it", fix=drop(at))
