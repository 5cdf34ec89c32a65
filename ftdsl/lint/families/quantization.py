"""Fewer bits: how the base is loaded, and what cannot be done with it."""

from __future__ import annotations

import re

from ftdsl.lint.config import Config
from ftdsl.lint.edits import drop, put
from ftdsl.lint.families.precision import model_of
from ftdsl.lint.rule import Found, error, rule, warning

PTQ = re.compile(r"gptq|awq|aqlm|-int4|-int8|w4a16|w8a8|bnb-4bit|-4bits?$|-8bits?$")
"""Names of checkpoints that are quantised already."""

BNB = ("bnb", "bitsandbytes")
"""bitsandbytes, as LLaMA-Factory names it and as it did before 0.9.3."""


def sharded(config: Config) -> str:
    """What splits the weights of one layer over cards."""
    return "ZeRO-3" if config.zero == 3 else "FSDP" if config.fsdp else ""


@rule("FT202")
def quantised_weights_are_fixed(config: Config) -> Found:
    """What it does: finds a quantised base under full or freeze training.
    Why it matters: quantised weights cannot be trained; LLaMA-Factory stops when its arguments are read.
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
            f"{method} training cannot change a quantised base",
            also=((other, "trained here"),),
            help="use LoRA, or load the base unquantised",
        )


@rule("FT203")
def bits_not_offered(config: Config) -> Found:
    """What it does: holds the number of bits against the method: bitsandbytes has 4 and 8, HQQ 1 to 6 and 8,
        EETQ 8, GPTQ export 2, 3, 4 and 8.
    Why it matters: found out only when the model is loaded.
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
                f"{who} has no {number:g} bits" if who != "LLaMA-Factory" else f"`{at.word}` cannot be {number:g}",
                help=f"write {some}",
            )


@rule("FT204")
def eight_bits_cannot_be_split(config: Config) -> Found:
    """What it does: finds 8-bit bitsandbytes where weights are split over cards.
    Why it matters: only 4-bit weights can be stored in pieces; LLaMA-Factory stops after it read the model's
        configuration.
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
            at, f"8-bit weights cannot be split by {how}; 4-bit ones can", help="write 4", fix=put(at, "4", safe=False)
        )


@rule("FT205")
def quantised_cannot_be_split(config: Config) -> Found:
    """What it does: finds HQQ, EETQ, or a checkpoint quantised beforehand (by its name) where weights are split
        over cards.
    Why it matters: LLaMA-Factory stops after it read the model's configuration.
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
        yield error(at, f"{method.upper()} weights cannot be split by {how}", help="use 4-bit bitsandbytes")
    elif PTQ.search(model_of(config)):
        at = config.at("model_name_or_path")
        yield error(
            at,
            f"a checkpoint that is quantised already cannot be split by {how}",
            help="start from the unquantised model, or use ZeRO-2",
        )


@rule("FT206")
def quantised_already(config: Config) -> Found:
    """What it does: finds `quantization_bit` on a checkpoint that is quantised already (by its name).
    Why it matters: it is ignored with one line in the log: the checkpoint's own bits count.
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
            f"`{at.word}` has no effect: by its name, the checkpoint is quantised already",
            help="drop it",
            fix=drop(at, safe=False) if config.form != "recipe" else None,
        )


@rule("FT207")
def not_on_a_quantised_base(config: Config) -> Found:
    """What it does: finds what a quantised base does not bear: a new vocabulary, a new adapter over another,
        several adapters, PiSSA.
    Why it matters: LLaMA-Factory stops when its arguments are read.
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
            "the vocabulary of a quantised base cannot grow",
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
            "a new adapter cannot be put on a quantised base that has one",
            also=bits,
            help="merge the first adapter before",
        )
    elif len(adapters) > 1:
        yield error(
            config.at("adapter_name_or_path"),
            f"a quantised base takes one adapter, and here are {len(adapters)}",
            also=bits,
            help="merge them first",
        )


@rule("FT208")
def fp8_on_quantised(config: Config) -> Found:
    """What it does: finds FP8 computation over a quantised base.
    Why it matters: LLaMA-Factory stops when its arguments are read.
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
            "FP8 cannot be computed over a quantised base",
            also=((other, "quantised here"),),
            help="keep one of them",
        )


@rule("FT219")
def device_map_while_training(config: Config) -> Found:
    """What it does: finds `quantization_device_map: auto` in training.
    Why it matters: a map over cards is for inference; LLaMA-Factory stops when its arguments are read.
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
        yield error(at, "a map over cards is for inference, not for training", help="drop it", fix=drop(at))


@rule("FT604")
def export_in_two_steps(config: Config) -> Found:
    """What it does: finds exports that want too much at once: adapters merged into a quantised base, or merged
        and quantised in one go, or quantised without rows to calibrate on.
    Why it matters: LLaMA-Factory loads the whole model before it says so.
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
                "merging and quantising cannot be done in one go",
                also=((config.at("adapter_name_or_path"), "merged here"),),
                help="export the merged model first, then quantise that",
            )
        if not config.has("export_quantization_dataset"):
            yield error(
                at,
                "quantising needs rows to calibrate on",
                help="write `export_quantization_dataset: rows.json`, with a `text` column",
            )


@rule("FT617")
def calibration_runs_dry(config: Config) -> Found:
    """What it does: points at calibration windows that few rows fill.
    Why it matters: GPTQ export reads a `text` column and wants rows longer than `export_quantization_maxlen`;
        after 100 tries without one it stops, the model already loaded.
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
            f"calibration wants rows of more than {at.text} tokens, and gives up after 100 tries",
            help="1024 is usual",
        )
