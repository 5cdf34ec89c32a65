"""Tokenizer, base, adapters: what a training starts from, and what it adds."""

from __future__ import annotations

from typing import Any

from ..report import StageError
from . import ranks

CONFIG = (
    "model_name_or_path", "model_revision", "trust_remote_code", "dtype", "attn_implementation", "load_in_4bit", "load_in_8bit",
    "bnb_4bit_quant_type", "use_bnb_nested_quant", "adapter_name_or_path", "distributed_config",
)  # fmt: skip
"""Parameters about the model: TRL's ModelConfig, the adapters below a new one, and transformers' DistributedConfig."""


def tokenizer_of(config: dict[str, Any]) -> Any:
    """The tokenizer beside the model."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(config["model_name_or_path"], **_source(config))
    tokenizer.padding_side = "right"
    return tokenizer


def _source(config: dict[str, Any]) -> dict[str, Any]:
    options = {"revision": config.get("model_revision"), "trust_remote_code": config.get("trust_remote_code")}
    return {name: value for name, value in options.items() if value is not None}


def base_of(config: dict[str, Any], tokenizer: Any, *, scores: bool = False) -> Any:
    """The base model in its dtype, quantised if asked. scores: with a head that gives one number, for a reward model."""
    import torch
    import transformers

    options = _source(config)
    options["dtype"] = getattr(torch, config.get("dtype", "float32"), "auto")
    if attention := config.get("attn_implementation"):
        options["attn_implementation"] = attention
    if config.get("load_in_4bit") or config.get("load_in_8bit"):
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=bool(config.get("load_in_4bit")),
            load_in_8bit=bool(config.get("load_in_8bit")),
            bnb_4bit_quant_type=config.get("bnb_4bit_quant_type", "nf4"),
            bnb_4bit_use_double_quant=bool(config.get("use_bnb_nested_quant")),
            bnb_4bit_compute_dtype=options["dtype"],
        )
    if split := config.get("distributed_config"):
        from transformers.distributed import DistributedConfig

        options["distributed_config"] = DistributedConfig(**split)
    kind = transformers.AutoModelForSequenceClassification if scores else transformers.AutoModelForCausalLM
    options |= {"num_labels": 1} if scores else {}
    model = kind.from_pretrained(config["model_name_or_path"], **options)
    model.config.pad_token_id = tokenizer.pad_token_id
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        rows = model.get_input_embeddings().num_embeddings
        raise StageError(f"the tokenizer has {len(tokenizer)} tokens, and the model {rows} rows of embeddings", "model")
    return model


def with_adapters(model: Any, config: dict[str, Any], *, new: bool, trained: bool = True) -> Any:
    """The base with the adapters below, merged in order. Without a new adapter the last one stays apart: it is trained further,
    or (not `trained`) used as it is."""
    from peft import PeftModel

    from .. import tuners

    tuners.register()
    paths = list(config.get("adapter_name_or_path") or ())
    for at, path in enumerate(paths):
        if at == len(paths) - 1 and not new:
            return PeftModel.from_pretrained(model, path, is_trainable=trained)
        model = PeftModel.from_pretrained(model, path).merge_and_unload()
    return model


def add_loader(model: Any, folder: str) -> None:
    """A file that loads an adapter which PEFT alone does not know, beside it."""
    from .. import tuners

    kinds = {config.peft_type for config in getattr(model, "peft_config", {}).values()}
    if kinds & {tuners.BOTTLENECK, tuners.MOE_LORA}:
        tuners.save_loader(folder)


def peft_config(spec: dict[str, Any], *, scores: bool = False) -> Any:
    """PEFT's configuration from the document's `peft`. Raises: StageError for what PEFT refuses."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, TaskType

    from .. import tuners  # makes its adapters known to PEFT

    tuners.register()
    options = dict(spec)
    if options["peft_type"] == ranks.TYPE:
        options.setdefault("total_step", ranks.UNKNOWN)  # once training starts, its own number
    kind = PEFT_TYPE_TO_CONFIG_MAPPING[options.pop("peft_type")]
    try:
        return kind(task_type=TaskType.SEQ_CLS if scores else TaskType.CAUSAL_LM, **options)
    except (TypeError, ValueError) as error:
        raise StageError(f"PEFT refuses the adapter: {error}", "lora", "prefix", "prompt", "adapter") from error
