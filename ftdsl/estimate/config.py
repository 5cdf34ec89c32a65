"""A config.json of Hugging Face as an `Architecture`: plain decoders, mixtures of experts, latent and linear attention, windows,
and the text side of models that see or hear. What has no physics here is refused, with the reason.

Sources: transformers, models/*/configuration_*.py (what is left out of a config.json) and modeling_*.py (what families are that
no config says).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftdsl.estimate.architecture import Architecture, NotModelledError
from ftdsl.record import replace

ENCODERS = {"bert", "roberta", "t5", "mt5", "bart", "whisper", "clip"}

TEXT_SIDES = ("text_config", "llm_config", "language_config", "thinker_config")
"""Keys under which models of several senses keep the decoder's sizes."""

TOWERS = ("vision_config", "audio_config", "vision_tower_config", "speech_config")

NAMES: Mapping[str, tuple[str, ...]] = {
    "hidden": ("hidden_size", "n_embd", "d_model", "dim"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "vocab": ("vocab_size", "padded_vocab_size"),
}
"""Sizes every config has, under one of these names."""

UNGATED = {"gpt2", "gpt_bigcode", "gpt_neox", "gptj", "bloom", "falcon", "mpt", "opt", "phi", "starcoder2", "nemotron",
           "nemotron_h", "arcee"}  # fmt: skip
LAYER_NORM = {"gpt2", "gpt_bigcode", "gpt_neox", "gptj", "bloom", "falcon", "mpt", "opt", "phi", "starcoder2", "stablelm",
              "codegen", "cohere", "cohere2", "nemotron"}  # fmt: skip
BARE_NORM = {"mpt", "cohere", "cohere2"}
PARALLEL = {"gpt_neox", "gptj", "falcon", "phi", "codegen", "cohere", "cohere2"}
TIED = {"cohere", "cohere2", "gpt2", "gpt_bigcode", "bloom", "falcon", "mpt", "opt", "gemma", "gemma2", "gemma3_text", "gemma3",
        "gemma3n_text", "gemma4_text", "gemma4"}  # fmt: skip
QKV_BIAS = {"qwen", "qwen2", "qwen2_moe", "chatglm", "qwen2_vl", "qwen2_5_vl", "qwen2_5_vl_text"}
ALL_BIAS = {"gpt2", "gpt_bigcode", "gpt_neox", "bloom", "opt", "phi", "starcoder2"}
ABSOLUTE = {"gpt2", "gpt_bigcode", "opt"}
QK_NORM = {"qwen3", "qwen3_moe", "qwen3_next", "qwen3_5", "qwen3_5_moe", "qwen3_5_text", "qwen3_5_moe_text", "qwen3_vl_text",
           "qwen3_vl_moe_text", "gemma3_text", "gemma3", "gemma4_text", "gemma4", "olmo2", "olmo3"}  # fmt: skip
FOUR_NORMS = {"gemma2", "gemma3_text", "gemma3", "gemma4_text", "gemma4", "glm4"}
ONE_NORM = {"phi", "gptj", "codegen", "cohere", "cohere2"}
HYBRID = {"qwen3_next", "qwen3_5", "qwen3_5_moe", "qwen3_5_text", "qwen3_5_moe_text"}
GATED_ATTENTION = HYBRID
"""Families whose query projection has a gate as wide beside."""


def from_config(config: Mapping[str, Any], name: str = "") -> Architecture:
    """The architecture that a config.json describes. Raises: NotModelledError, with what is missing or refused."""
    whole, config = config, _text_side(config)
    family = str(config.get("model_type") or whole.get("model_type", "llama"))
    if whole.get("is_encoder_decoder") or family in ENCODERS:
        raise NotModelledError(f"cannot estimate {name or 'this model'}: it is not a decoder ({family})")
    sizes = {ours: _size(config, theirs, name) for ours, theirs in NAMES.items()}
    hidden, heads = sizes["hidden"], sizes["heads"]
    plain = Architecture(
        **sizes,
        kv_heads=_kv_heads(config, heads),
        ffn=_ffn(config, family, hidden),
        head_dim=int(config.get("head_dim") or config.get("kv_channels") or hidden // heads),
        name=name or str(whole.get("_name_or_path", "")),
        family=family,
        tied=bool(config.get("tie_word_embeddings", whole.get("tie_word_embeddings", family in TIED))),
        gated=family not in UNGATED,
        bias=_bias(config, family),
        norm="layer-no-bias" if family in BARE_NORM else "layer" if family in LAYER_NORM else "rms",
        norms=4 if family in FOUR_NORMS else 1 if family in ONE_NORM or _falcon_one(config, family) else 2,
        qk_norm=family in QK_NORM or bool(config.get("use_qk_norm")),
        parallel=family in PARALLEL and bool(config.get("use_parallel_residual", True)),
        positions=int(config.get("n_positions") or config.get("max_position_embeddings") or 0)
        if family in ABSOLUTE
        else 0,
        extra=_extra(family, hidden, sizes["vocab"]),
        tower=sum(tower_params(whole[key], hidden) for key in TOWERS if isinstance(whole.get(key), Mapping)),
        **_windows(config, sizes["layers"], family),
    )
    return _mixture(_attention(plain, config, family), config)


def _text_side(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The decoder's part, through as many levels as there are."""
    for key in TEXT_SIDES:
        if isinstance(inner := config.get(key), Mapping) and inner:
            return _text_side(inner)
    return config


def _size(config: Mapping[str, Any], names: tuple[str, ...], model: str) -> int:
    given = next((config[key] for key in names if config.get(key)), None)
    if given is None:
        raise NotModelledError(f"cannot estimate {model or 'this model'}: its config.json has no {names[0]}")
    return int(given)


def _kv_heads(config: Mapping[str, Any], heads: int) -> int:
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        return 1
    given = config.get("num_key_value_heads") or config.get("num_kv_heads") or config.get("multi_query_group_num")
    return int(given or heads)


def _ffn(config: Mapping[str, Any], family: str, hidden: int) -> int:
    """Inner width of the MLP; Qwen's first models give both halves of it together, others leave four times hidden unsaid."""
    keys = ("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner", "intermediate_size_mlp")
    given = next((config[key] for key in keys if config.get(key)), None)
    if isinstance(given, list):
        given = sum(given) / len(given)
    width = int(given or config.get("moe_intermediate_size") or config.get("expansion_ratio", 4) * hidden)
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


# --- attention


def _windows(config: Mapping[str, Any], layers: int, family: str) -> dict[str, int]:
    """Layers with a window, as a list of kinds, a pattern, or all of them say."""
    window = config.get("sliding_window") or 0
    if not window or config.get("use_sliding_window") is False:
        return {}
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        windowed = sum(str(kind).startswith("sliding") for kind in kinds)
    elif pattern := config.get("sliding_window_pattern"):
        windowed = layers - layers // int(pattern)
    else:
        windowed = layers // 2 if family in ("gemma2", "gpt_oss") else layers
    return {"window": int(window), "windowed": min(windowed, layers)}


def _attention(plain: Architecture, config: Mapping[str, Any], family: str) -> Architecture:
    """With attention of another shape than four maps: latent, linear, state space, or two kinds of heads."""
    if config.get("kv_lora_rank") or config.get("o_lora_rank"):
        return _latent(plain, config)
    if family in HYBRID:
        return _gated_delta(plain, config)
    if family == "nemotron_h" or config.get("mamba_d_state") or config.get("mamba_num_heads"):
        return _state_space(plain, config)
    if config.get("state_size") or config.get("ssm_cfg"):
        raise NotModelledError(f"cannot estimate {plain.name or 'this model'}: it has state-space layers alone")
    if wide := config.get("global_head_dim"):
        return _two_heads(plain, config, int(wide))
    return plain


def _latent(plain: Architecture, config: Mapping[str, Any]) -> Architecture:
    """Multi-head latent attention (arXiv:2405.04434, 2.1): queries and keys through low ranks, a rotary part beside. DeepSeek V4
    shares one key head, and its output goes through groups of low rank."""
    h, heads = plain.hidden, plain.heads
    rope = int(config.get("qk_rope_head_dim") or 64)
    low_q = int(config.get("q_lora_rank") or 0)
    if not (low_kv := int(config.get("kv_lora_rank") or 0)):
        width, groups, low_o = heads * plain.head_dim, int(config.get("o_groups") or 8), int(config["o_lora_rank"])
        weights = h * low_q + low_q * width + h * plain.head_dim + width * low_o + groups * low_o * h
        return replace(plain, kv_heads=1, attention_weights=weights)
    nope, value = int(config.get("qk_nope_head_dim") or 128), int(config.get("v_head_dim") or 128)
    query = h * low_q + low_q * heads * (nope + rope) if low_q else h * heads * (nope + rope)
    weights = query + h * (low_kv + rope) + low_kv * heads * (nope + value) + heads * value * h
    return replace(plain, kv_heads=heads, head_dim=nope + rope, attention_weights=weights)


def _gated_delta(plain: Architecture, config: Mapping[str, Any]) -> Architecture:
    """Gated delta networks in three of four layers (transformers, modeling_qwen3_next.py: in_proj_qkvz, in_proj_ba, out_proj),
    and attention whose queries have a gate."""
    h, layers = plain.hidden, plain.layers
    kinds = config.get("layer_types")
    interval = int(config.get("full_attention_interval") or 4)
    linear = (
        sum(str(kind).startswith("linear") for kind in kinds)
        if isinstance(kinds, list)
        else layers - layers // interval
    )
    keys = int(config.get("linear_num_key_heads") or 16) * int(config.get("linear_key_head_dim") or 128)
    value_heads = int(config.get("linear_num_value_heads") or 32)
    values = value_heads * int(config.get("linear_value_head_dim") or 128)
    delta = h * (2 * keys + 2 * values) + 2 * h * value_heads + values * h
    full = h * 2 * plain.q + 2 * h * plain.kv + plain.q * h
    average = (linear * delta + (layers - linear) * full) // layers
    return replace(plain, linear_layers=linear, attention_weights=average)


def _state_space(plain: Architecture, config: Mapping[str, Any]) -> Architecture:
    """Mamba 2 layers among attention and MLPs (arXiv:2405.21060): a projection in of twice the inner width, states and heads, and
    one out. A pattern names each layer (`M` state space, `*` attention, `-` or `E` an MLP)."""
    h, layers = plain.hidden, plain.layers
    pattern = str(config.get("hybrid_override_pattern") or "")
    kinds = config.get("layers_block_type") or config.get("layer_types") or []
    mamba = pattern.count("M") or sum("mamba" in str(kind) for kind in kinds) or layers // 2
    attention = pattern.count("*") or sum("attention" in str(kind) for kind in kinds) or layers - mamba
    heads = int(config.get("mamba_num_heads") or config.get("mamba_n_heads") or 0)
    inner = heads * int(config.get("mamba_head_dim") or config.get("mamba_d_head") or 64) or 2 * h
    states = (
        2
        * int(config.get("n_groups") or config.get("mamba_n_groups") or 1)
        * int(config.get("ssm_state_size") or config.get("mamba_d_state") or 128)
    )
    mixing = h * (2 * inner + states + (heads or inner // 64)) + inner * h
    weights = (mamba * mixing + attention * (2 * h * plain.q + 2 * h * plain.kv)) // layers
    # where every layer is one kind of thing, MLPs are as many as letters for them
    mlps = pattern.count("-") or layers
    return replace(
        plain, linear_layers=min(mamba, layers - 1), attention_weights=weights, ffn=plain.ffn * mlps // layers
    )


def _two_heads(plain: Architecture, config: Mapping[str, Any], wide: int) -> Architecture:
    """Gemma 4: layers without a window have wider heads, fewer of them for keys, whose values are the keys."""
    h, heads = plain.hidden, plain.heads
    keys = int(config.get("num_global_key_value_heads") or plain.kv_heads)
    shared = 1 if config.get("attention_k_eq_v") else 2
    far = plain.layers - plain.windowed
    near = 2 * h * plain.q + 2 * h * plain.kv
    average = (plain.windowed * near + far * (2 * h * heads * wide + shared * h * keys * wide)) // plain.layers
    return replace(plain, attention_weights=average)


# --- experts and towers


def _mixture(plain: Architecture, config: Mapping[str, Any]) -> Architecture:
    """With experts, shared ones, and the layers that have none."""
    keys = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    count = next((config[key] for key in keys if config.get(key)), 0)
    if not count or (config.get("enable_moe_block") is False):
        return plain
    used = (
        config.get("num_experts_per_tok")
        or config.get("top_k_experts")
        or config.get("moe_topk")
        or config.get("moe_k")
        or 2
    )
    expert = int(config.get("moe_intermediate_size") or config.get("expert_ffn_hidden_size") or plain.ffn)
    shared = config.get("shared_expert_intermediate_size") or config.get("moe_shared_expert_intermediate_size")
    shared = int(shared or int(config.get("n_shared_experts") or config.get("num_shared_experts") or 0) * expert)
    dense, step = int(config.get("first_k_dense_replace") or 0), int(config.get("interleave_moe_layer_step") or 1)
    if step > 1:
        dense = plain.layers - plain.layers // step
    ffn = plain.ffn
    if plain.family.startswith("llama4"):
        shared, ffn = plain.ffn, int(config.get("intermediate_size_mlp") or plain.ffn)
    return replace(
        plain,
        experts=int(count),
        experts_used=int(used),
        moe_ffn=expert,
        shared_ffn=shared,
        dense_layers=min(dense, plain.layers),
        ffn=ffn,
    )


def tower_params(config: Mapping[str, Any], hidden: int) -> int:
    """Parameters of an encoder of pictures or sound and of what hands its features on, about: four maps of attention, two or
    three of an MLP, and a projector of the decoder's width."""
    width = config.get("hidden_size") or config.get("embed_dim") or config.get("d_model") or config.get("width")
    depth = (
        config.get("num_hidden_layers") or config.get("depth") or config.get("encoder_layers") or config.get("layers")
    )
    if not width or not depth:
        return 0
    inner = config.get("intermediate_size") or config.get("encoder_ffn_dim") or 4 * int(width)
    maps = 3 if config.get("model_type") in ("qwen2_5_vl", "pixtral") or config.get("hidden_act") == "silu" else 2
    layer = int(width) * (4 * int(width) + maps * int(inner))
    merged = int(width) * int(config.get("spatial_merge_size") or 1) ** 2
    return int(depth) * layer + merged * (merged + int(config.get("out_hidden_size") or hidden))
