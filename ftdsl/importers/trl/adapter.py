"""The inverse of a TRL stage's method, precision and quantisation (trl/trainer/model_config.py, utils.py: get_peft_config,
get_quantization_config)."""

from __future__ import annotations

from typing import Any

from ftdsl import catalog
from ftdsl.importers import models
from ftdsl.importers.draft import StageDraft
from ftdsl.language.values import Term

LORA = {"lora_r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout", "lora_target_modules": "targets",
        "lora_modules_to_save": "modules_to_save", "lora_target_parameters": "target_parameters",
        "use_rslora": "rslora"}  # fmt: skip
"""Parameter -> key of `lora`."""
_ONLY_LORA = (*LORA, "use_dora", "lora_task_type")
_BNB = {"load_in_8bit": "int8", "load_in_4bit": "nf4"}
_OF_4BIT = ("bnb_4bit_quant_type", "use_bnb_nested_quant", "bnb_4bit_quant_storage")


def begin(draft: StageDraft) -> None:
    """`use_peft` opens `lora { }`, everything else trains all weights."""
    draft.used.update(("do_train", "do_eval", "do_predict", "env"))
    draft.blocks.add("lora" if draft.on("use_peft") else "full")
    _lora(draft)
    quantisation(draft)
    precision(draft)


def _lora(draft: StageDraft) -> None:
    if "lora" not in draft.blocks:
        for name in _ONLY_LORA:
            if draft.given(name) and draft.raw(name) is not None:
                draft.note(name, "has no effect without `use_peft`")
        return
    draft.used.add("lora_task_type")  # what the stage is decides it
    draft.set("lora.rank", draft.take("lora_r"))
    draft.set("lora.alpha", draft.take("lora_alpha"))
    draft.set("lora.dropout", draft.take("lora_dropout"))
    if draft.on("use_rslora"):
        draft.set("lora.rslora", True)
    if draft.on("use_dora"):
        draft.set("lora.variant", Term("dora"))
    for name in ("lora_modules_to_save", "lora_target_parameters"):
        if items := _list(draft.raw(name)):
            draft.set(f"lora.{LORA[name]}", items)
    _targets(draft)


def _targets(draft: StageDraft) -> None:
    """Without a list PEFT takes the modules that it has for the architecture."""
    items = _list(draft.raw("lora_target_modules"))
    if items:
        draft.set("lora.targets", [Term("all")] if items == ["all-linear"] else items)
    elif draft.given("lora_target_parameters"):
        return
    elif usual := catalog.default_targets(draft.config.architecture):
        draft.set("lora.targets", usual)
        draft.reasons["lora_target_modules"] = "the modules that PEFT has for the architecture, written out"
    else:
        text = "PEFT chooses the modules by the architecture, which is not known here: `targets` are all linear ones"
        draft.note("lora_target_modules", text)
        draft.reasons["lora_target_modules"] = text


def _list(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value] if value else []
    return [str(item) for item in items]


def quantisation(draft: StageDraft) -> None:
    scheme = next((scheme for name, scheme in _BNB.items() if draft.on(name)), "")
    if not scheme:
        for name in _OF_4BIT:
            if draft.given(name) and draft.raw(name) is not None:
                draft.note(name, "has no effect without `load_in_4bit`")
        return
    draft.blocks.add("quantize")
    draft.set("quantize.bits", 8 if scheme == "int8" else 4)
    if scheme == "int8":
        draft.set("quantize.scheme", Term("int8"))
        return
    draft.set("quantize.scheme", Term(str(draft.take("bnb_4bit_quant_type"))))
    draft.set("quantize.double", draft.on("use_bnb_nested_quant"))
    if draft.raw("bnb_4bit_quant_storage") is not None:
        draft.note("bnb_4bit_quant_storage", "a recipe keeps quantised weights in bytes")


def precision(draft: StageDraft) -> None:
    """`bf16` is on unless `fp16` is (trl/trainer/base_config.py); `dtype` is that of the weights as they are loaded."""
    dtype, full = str(draft.take("dtype")), "full" in draft.blocks
    half = "fp16" if draft.on("fp16") else "bf16" if bf16(draft.config) else ""
    draft.used.add("bf16")
    name = half or "fp32"
    if full and dtype in ("bfloat16", "auto"):
        name = "pure_bf16"
        draft.reasons["bf16"] = "weights in bf16 are computed with in bf16"
        if dtype == "auto":
            text = "the dtype of the model's file: taken as `bfloat16`, which is what most have"
            draft.note("dtype", text, carried=True)
    elif full and dtype == "float16":
        draft.note("dtype", "weights in fp16 cannot be trained: `precision = fp16` keeps them in fp32")
    elif not full:
        draft.reasons["dtype"] = "a frozen base has the dtype that is computed in"
    draft.set("precision", Term(name))


def bf16(config: Any) -> bool:
    """Whether a TRL configuration computes in bf16."""
    given = config.value("bf16")
    return not config.on("fp16") if given is None else config.on("bf16")


def model(draft: StageDraft) -> None:
    """The base. What another stage makes is its base and, where that trained one, its adapter."""
    models.model(draft)
    if draft.parents:
        draft.reasons["model_name_or_path"] = f"`{draft.parents[0]}` makes it"
