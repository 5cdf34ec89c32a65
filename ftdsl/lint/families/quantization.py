"""Quantised base models and quantising exports: what they support."""

from __future__ import annotations

import re

from ftdsl.lint.config import Config
from ftdsl.lint.edits import drop, put
from ftdsl.lint.families.precision import model_of
from ftdsl.lint.rule import Findings, error, rule, warning

PTQ = re.compile(r"gptq|awq|aqlm|-int4|-int8|w4a16|w8a8|bnb-4bit|-4bits?$|-8bits?$")
"""Names of pre-quantised checkpoints."""

BNB = ("bnb", "bitsandbytes")
"""LLaMA-Factory's names for bitsandbytes: now, and before 0.9.3."""


def sharded(config: Config) -> str:
    """What shards the weights of a layer over GPUs; "" for none."""
    return "ZeRO-3" if config.zero == 3 else "FSDP" if config.fsdp else ""


@rule("FT202")
def quantised_base_not_trainable(config: Config) -> Findings:
    """What it does: finds a quantised base under full or freeze training.
    Why it matters: quantised weights cannot be trained; LLaMA-Factory stops while parsing its arguments.
    Example:
        finetuning_type: full
        learning_rate: 1e-5
        quantization_bit: 4
    Use instead:
        finetuning_type: lora
        quantization_bit: 4
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:235 (0.9.5)
    """
    method = config.value("finetuning_type")
    if config.has("quantization_bit") and method in ("full", "freeze") and (config.trains or config.form != "recipe"):
        at, other = config.at("quantization_bit"), config.at("finetuning_type")
        yield error(
            at,
            f"{method} training does not support a quantised base",
            also=((other, "the method"),),
            help="use LoRA, or load the base unquantised",
        )


@rule("FT203")
def unsupported_bits(config: Config) -> Findings:
    """What it does: checks the number of bits against the method: bitsandbytes supports 4 and 8, HQQ 1 to 6 and 8,
        EETQ 8, GPTQ export 2, 3, 4 and 8.
    Why it matters: the run stops only when the model is loaded.
    Example:
        quantization_bit: 5
        ---
        quantization_bit: 7
        quantization_method: hqq
        ---
        quantization_bit: 4
        quantization_method: eetq
        ---
        export_dir: out
        export_quantization_bit: 5
        export_quantization_dataset: c4.json
        ---
        stage: dpo
        learning_rate: 5e-6
        ref_model: a/b
        ref_model_quantization_bit: 3
    Use instead:
        quantization_bit: 4
        ---
        quantization_bit: 6
        quantization_method: hqq
        ---
        quantization_bit: 8
        quantization_method: eetq
    Applies to: LLaMA-Factory
    Source: llamafactory/model/model_utils/quantization.py:133, 181, 196, 208; finetuning_args.py:593 (0.9.5)
    """
    method = str(config.value("quantization_method"))
    allowed = {"hqq": (1, 2, 3, 4, 5, 6, 8), "eetq": (8,)}.get(method, (4, 8))
    asked = [("quantization_bit", allowed, "bitsandbytes" if method in BNB else method.upper())]
    asked += [("export_quantization_bit", (2, 3, 4, 8), "GPTQ")]
    asked += [(f"{name}_quantization_bit", (4, 8), "LLaMA-Factory") for name in ("ref_model", "reward_model")]
    for name, bits, who in asked:
        number = config.number(name)
        if number is not None and number not in bits:
            at = config.at(name)
            some = " or ".join(map(str, bits)) if len(bits) < 3 else ", ".join(map(str, bits))
            yield error(
                at,
                f"{who} does not support {number:g} bits"
                if who != "LLaMA-Factory"
                else f"`{at.word}` cannot be {number:g}",
                help=f"write {some}",
            )


@rule("FT204")
def eight_bits_not_shardable(config: Config) -> Findings:
    """What it does: finds 8-bit bitsandbytes where weights are sharded over GPUs.
    Why it matters: only 4-bit weights can be sharded; LLaMA-Factory stops after reading the model's configuration.
    Example:
        quantization_bit: 8
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
        ---
        quantization_bit: 8
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 2}
    Use instead:
        quantization_bit: 4
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
    Applies to: LLaMA-Factory
    Source: llamafactory/model/model_utils/quantization.py:186 (0.9.5); LLaMA-Factory#3543
    """
    how = sharded(config)
    if how and config.number("quantization_bit") == 8 and config.value("quantization_method") in BNB:
        at = config.at("quantization_bit")
        yield error(
            at, f"{how} cannot shard 8-bit weights, only 4-bit ones", help="write 4", fix=put(at, "4", safe=False)
        )


@rule("FT205")
def quantised_not_shardable(config: Config) -> Findings:
    """What it does: finds HQQ, EETQ, or a pre-quantised checkpoint (by its name) where weights are sharded over GPUs.
    Why it matters: LLaMA-Factory stops after reading the model's configuration.
    Example:
        quantization_bit: 4
        quantization_method: hqq
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
        ---
        model_name_or_path: Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4
        template: qwen
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
    Use instead:
        quantization_bit: 4
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
    Applies to: LLaMA-Factory
    Source: llamafactory/model/model_utils/quantization.py:97, 199, 211 (0.9.5)
    """
    how = sharded(config)
    if not how:
        return
    method = str(config.value("quantization_method"))
    if config.has("quantization_bit") and method in ("hqq", "eetq"):
        at = config.first("quantization_method", "quantization_bit")
        yield error(at, f"{how} cannot shard {method.upper()} weights", help="use 4-bit bitsandbytes")
    elif PTQ.search(model_of(config)):
        at = config.at("model_name_or_path")
        yield error(
            at,
            f"{how} cannot shard a pre-quantised checkpoint",
            help="start from the unquantised model, or use ZeRO-2",
        )


@rule("FT206")
def quantised_already(config: Config) -> Findings:
    """What it does: finds `quantization_bit` on a pre-quantised checkpoint (by its name).
    Why it matters: it is ignored with a log line only; the checkpoint keeps its own bits.
    Example:
        model_name_or_path: Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8
        template: qwen
        quantization_bit: 4
    Use instead:
        model_name_or_path: Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8
        template: qwen
    Applies to: LLaMA-Factory
    Source: llamafactory/model/model_utils/quantization.py:92 (0.9.5) warns
    """
    if config.has("quantization_bit") and PTQ.search(model_of(config)):
        at = config.at("quantization_bit")
        yield warning(
            at,
            f"`{at.word}` has no effect: by its name, the checkpoint is already quantised",
            help="drop it",
            fix=drop(at, safe=False) if config.form != "recipe" else None,
        )


@rule("FT207")
def not_on_a_quantised_base(config: Config) -> Findings:
    """What it does: finds what a quantised base does not support: a resized vocabulary, a new adapter on top of another,
        several adapters, PiSSA.
    Why it matters: LLaMA-Factory stops while parsing its arguments.
    Example:
        quantization_bit: 4
        resize_vocab: true
        additional_target: embed_tokens
        ---
        quantization_bit: 4
        pissa_init: true
        ---
        quantization_bit: 4
        adapter_name_or_path: saves/a
        create_new_adapter: true
        ---
        quantization_bit: 4
        adapter_name_or_path: saves/a,saves/b
    Use instead:
        quantization_bit: 4
        adapter_name_or_path: saves/a
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:238-249 (0.9.5)
    """
    if not config.has("quantization_bit"):
        return
    bits = ((config.at("quantization_bit"), "quantised here"),)
    if config.on("resize_vocab"):
        yield error(
            config.at("resize_vocab"),
            "the vocabulary of a quantised base cannot be resized",
            also=bits,
            help="load the base unquantised",
        )
    if config.on("pissa_init"):
        yield error(
            config.at("pissa_init"),
            "PiSSA needs the unquantised weights",
            also=bits,
            help="run scripts/pissa_init.py first, or drop it",
        )
    adapters = config.items("adapter_name_or_path")
    if adapters and config.on("create_new_adapter"):
        at = config.first("create_new_adapter", "adapter_name_or_path")
        yield error(
            at,
            "a quantised base with an adapter does not support a new one",
            also=bits,
            help="merge the first adapter first",
        )
    elif len(adapters) > 1:
        yield error(
            config.at("adapter_name_or_path"),
            f"a quantised base supports one adapter, but there are {len(adapters)}",
            also=bits,
            help="merge them first",
        )


@rule("FT208")
def fp8_on_quantised(config: Config) -> Findings:
    """What it does: finds FP8 training of a quantised base.
    Why it matters: LLaMA-Factory stops while parsing its arguments.
    Example:
        fp8: true
        quantization_bit: 4
    Use instead:
        quantization_bit: 4
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:527 (0.9.5)
    """
    if config.on("fp8") and config.has("quantization_bit"):
        at, other = config.at("fp8"), config.at("quantization_bit")
        yield error(
            at,
            "FP8 does not support a quantised base",
            also=((other, "quantised here"),),
            help="keep one of them",
        )


@rule("FT219")
def device_map_while_training(config: Config) -> Findings:
    """What it does: finds `quantization_device_map: auto` in training.
    Why it matters: a device map is for inference; LLaMA-Factory stops while parsing its arguments.
    Example:
        quantization_bit: 4
        quantization_device_map: auto
    Use instead:
        quantization_bit: 4
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:495 (0.9.5)
    """
    if config.trains and config.value("quantization_device_map") == "auto":
        at = config.at("quantization_device_map")
        yield error(at, "a device map is for inference, not for training", help="drop it", fix=drop(at))


@rule("FT604")
def export_needs_two_steps(config: Config) -> Findings:
    """What it does: finds exports that need two steps or lack data: adapters merged into a quantised base, merging and
        quantising at once, quantising without calibration data.
    Why it matters: LLaMA-Factory stops only after loading the whole model.
    Example:
        adapter_name_or_path: saves/sft
        quantization_bit: 4
        export_dir: out
        ---
        adapter_name_or_path: saves/sft
        export_dir: out
        export_quantization_bit: 4
        export_quantization_dataset: c4.json
        ---
        export_dir: out
        export_quantization_bit: 4
    Use instead:
        adapter_name_or_path: saves/sft
        export_dir: out
        ---
        export_dir: out
        export_quantization_bit: 4
        export_quantization_dataset: c4.json
    Applies to: LLaMA-Factory
    Source: llamafactory/train/tuner.py:158, 167; hparams/model_args.py:396 (0.9.5); LLaMA-Factory#5625
    """
    if config.kind != "export":
        return
    adapter = config.has("adapter_name_or_path")
    if adapter and (config.has("quantization_bit") or PTQ.search(model_of(config))):
        at = config.first("quantization_bit", "model_name_or_path")
        yield error(
            at,
            "adapters cannot be merged into a quantised base",
            also=((config.at("adapter_name_or_path"), "merged here"),),
            help="merge into the unquantised base",
        )
    if config.has("export_quantization_bit"):
        at = config.at("export_quantization_bit")
        if adapter:
            yield error(
                at,
                "an export cannot merge and quantise at once",
                also=((config.at("adapter_name_or_path"), "merged here"),),
                help="export the merged model first, then quantise it",
            )
        if not config.has("export_quantization_dataset"):
            yield error(
                at,
                "quantising needs calibration data",
                help="write `export_quantization_dataset: rows.json`, with a `text` column",
            )


@rule("FT617")
def calibration_rows_too_short(config: Config) -> Findings:
    """What it does: finds a calibration length that few rows reach.
    Why it matters: GPTQ export samples rows of the `text` column longer than `export_quantization_maxlen`; after 100
        tries without one it stops, with the model already loaded.
    Example:
        export_dir: out
        export_quantization_bit: 4
        export_quantization_dataset: c4.json
        export_quantization_maxlen: 8192
    Use instead:
        export_dir: out
        export_quantization_bit: 4
        export_quantization_dataset: c4.json
        export_quantization_maxlen: 1024
    Applies to: LLaMA-Factory
    Source: llamafactory/model/model_utils/quantization.py:57-78 (0.9.5)
    """
    if config.has("export_quantization_bit") and (config.number("export_quantization_maxlen") or 0) > 4096:
        at = config.at("export_quantization_maxlen")
        yield warning(
            at,
            f"calibration needs rows longer than {at.text} tokens, and stops after 100 tries without one",
            help="1024 is usual",
        )
