"""A config.json of Hugging Face as an `Architecture`. What is not a plain decoder of text is refused, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftdsl.estimate.architecture import Architecture, NotModelledError

REFUSED = {
    "vision_config": "it reads images, and the vision tower is not modelled",
    "audio_config": "it reads sound, and the audio tower is not modelled",
    "kv_lora_rank": "its latent attention (MLA) is not modelled",
    "ssm_cfg": "its state-space layers are not modelled",
    "state_size": "its state-space layers are not modelled",
    "mamba_d_state": "its state-space layers are not modelled",
    "linear_num_key_heads": "its linear attention is not modelled",
    "shared_expert_intermediate_size": "its shared experts are not modelled",
    "n_shared_experts": "its shared experts are not modelled",
}
"""Keys whose presence makes a model something else."""

ENCODERS = {"bert", "roberta", "t5", "mt5", "bart", "whisper", "clip"}

NAMES: Mapping[str, tuple[str, ...]] = {
    "hidden": ("hidden_size", "n_embd", "d_model", "dim"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "vocab": ("vocab_size", "padded_vocab_size"),
}
"""Sizes every config has, under one of these names."""

UNGATED = {"gpt2", "gpt_bigcode", "gpt_neox", "gptj", "bloom", "falcon", "mpt", "opt", "phi", "starcoder2"}
LAYER_NORM = UNGATED | {"stablelm", "codegen", "cohere"}
BARE_NORM = {"mpt", "cohere"}
PARALLEL = {"gpt_neox", "gptj", "falcon", "phi", "codegen", "cohere"}
TIED = {"cohere", "gpt2", "gpt_bigcode", "bloom", "falcon", "mpt", "opt", "gemma", "gemma2", "gemma3_text"}
QKV_BIAS = {"qwen", "qwen2", "qwen2_moe", "chatglm"}
ALL_BIAS = {"gpt2", "gpt_bigcode", "gpt_neox", "bloom", "opt", "phi", "starcoder2"}
ABSOLUTE = {"gpt2", "gpt_bigcode", "opt"}
QK_NORM = {"qwen3", "qwen3_moe", "gemma3_text", "olmo2"}
FOUR_NORMS = {"gemma2", "gemma3_text"}
ONE_NORM = {"phi", "gptj", "codegen", "cohere"}
"""What families are that their config does not say (transformers, models/*/modeling_*.py)."""


def from_config(config: Mapping[str, Any], name: str = "") -> Architecture:
    """The architecture that a config.json describes. Raises: NotModelledError, with what is missing or refused."""
    for key, why in REFUSED.items():
        if config.get(key):
            raise NotModelledError(f"cannot estimate {name or 'this model'}: {why}")
    family = str(config.get("model_type", "llama"))
    if config.get("is_encoder_decoder") or family in ENCODERS:
        raise NotModelledError(f"cannot estimate {name or 'this model'}: it is not a decoder ({family})")
    sizes = {ours: _size(config, theirs, name) for ours, theirs in NAMES.items()}
    hidden, heads = sizes["hidden"], sizes["heads"]
    return Architecture(
        **sizes,
        kv_heads=_kv_heads(config, family, heads),
        ffn=_ffn(config, family, hidden),
        head_dim=int(config.get("head_dim") or config.get("kv_channels") or hidden // heads),
        name=name or str(config.get("_name_or_path", "")),
        family=family,
        tied=bool(config.get("tie_word_embeddings", family in TIED)),
        gated=family not in UNGATED,
        bias=_bias(config, family),
        norm="layer-no-bias" if family in BARE_NORM else "layer" if family in LAYER_NORM else "rms",
        norms=4 if family in FOUR_NORMS else 1 if family in ONE_NORM or _falcon_one(config, family) else 2,
        qk_norm=family in QK_NORM,
        parallel=family in PARALLEL and bool(config.get("use_parallel_residual", True)),
        positions=int(config.get("n_positions") or config.get("max_position_embeddings") or 0)
        if family in ABSOLUTE
        else 0,
        extra=_extra(family, hidden, sizes["vocab"]),
        **_experts(config),
    )


def _size(config: Mapping[str, Any], names: tuple[str, ...], model: str) -> int:
    found = next((config[key] for key in names if config.get(key)), None)
    if found is None:
        raise NotModelledError(f"cannot estimate {model or 'this model'}: its config.json has no {names[0]}")
    return int(found)


def _kv_heads(config: Mapping[str, Any], family: str, heads: int) -> int:
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        return 1
    given = config.get("num_key_value_heads") or config.get("num_kv_heads") or config.get("multi_query_group_num")
    return int(given or heads)


def _ffn(config: Mapping[str, Any], family: str, hidden: int) -> int:
    """Inner width of the MLP; Qwen's first models give both halves of it together, others leave four times hidden unsaid."""
    keys = ("moe_intermediate_size", "intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner")
    given = next((config[key] for key in keys if config.get(key)), None)
    width = int(given or config.get("expansion_ratio", 4) * hidden)
    return width // 2 if family == "qwen" else width


def _bias(config: Mapping[str, Any], family: str) -> str:
    if family in ALL_BIAS or config.get("bias"):
        return "all"
    return "qkv" if family in QKV_BIAS or config.get("attention_bias") or config.get("add_qkv_bias") else "none"


def _falcon_one(config: Mapping[str, Any], family: str) -> bool:
    """Falcon's first architecture has one norm for attention and MLP."""
    return family == "falcon" and not config.get("new_decoder_architecture")


def _extra(family: str, hidden: int, vocab: int) -> int:
    """Parameters outside the pattern: the bias of Phi's head, the norm after BLOOM's embedding."""
    return {"phi": vocab, "bloom": 2 * hidden}.get(family, 0)


def _experts(config: Mapping[str, Any]) -> dict[str, int]:
    count = config.get("num_local_experts") or config.get("num_experts") or config.get("n_routed_experts")
    return {"experts": int(count), "experts_used": int(config.get("num_experts_per_tok") or 2)} if count else {}
