"""Any architecture at toy size: the same code paths of transformers (experts, latent attention, sliding windows), two layers.

A size is set only where the architecture has it. Names of sizes: transformers 5.6.0, models/*/configuration_*.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HIDDEN, LAYERS, HEADS, KEYS, HEAD, FEED, EXPERTS, CONTEXT = 64, 2, 4, 2, 16, 128, 4, 4096

_NAMES = (
    (HIDDEN, "hidden_size d_model n_embd dim_model_base"),
    (LAYERS, "num_hidden_layers n_layer n_layers max_window_layers"),
    (HEADS, "num_attention_heads n_head n_heads"),
    (KEYS, "num_key_value_heads num_global_key_value_heads"),
    (HEAD, "head_dim global_head_dim query_pre_attn_scalar"),
    (FEED, "intermediate_size ffn_hidden_size n_inner intermediate_size_mlp block_ff_dim"),
    (CONTEXT, "max_position_embeddings"),
    # experts: mixtral, qwen moe, deepseek, glm, gpt-oss
    (EXPERTS, "num_experts num_local_experts n_routed_experts moe_num_experts"),
    (2, "num_experts_per_tok experts_per_token moe_k top_k_experts moe_topk"),
    (FEED // 4, "moe_intermediate_size shared_expert_intermediate_size moe_shared_expert_intermediate_size"),
    (FEED // 4, "expert_ffn_hidden_size"),
    (1, "n_shared_experts num_shared_experts moe_num_shared_experts first_k_dense_replace n_group topk_group"),
    (1, "decoder_sparse_step"),
    # latent attention: deepseek 2 and 3
    (HEAD, "q_lora_rank kv_lora_rank qk_nope_head_dim v_head_dim"),
    (HEAD // 2, "qk_rope_head_dim"),
    (HEAD + HEAD // 2, "qk_head_dim"),
    # linear attention, inputs of each layer
    (KEYS, "linear_num_key_heads linear_num_value_heads"),
    (HEAD, "linear_key_head_dim linear_value_head_dim hidden_size_per_layer_input"),
    (8, "laurel_rank"),
    (0, "num_kv_shared_layers"),
)
SIZES: dict[str, Any] = {name: size for size, names in _NAMES for name in names.split()} | {"mlp_only_layers": []}

DROPPED = ("auto_map", "architectures", "quantization_config", "torch_dtype", "dtype", "transformers_version", "model_type",
           "rope_scaling", "rope_parameters", "_name_or_path", "vision_config", "audio_config")  # fmt: skip
"""Of a real config.json: what belongs to its weights and its code, and stretched positions, whose tables have a length."""

EACH_LAYER = ("layer_types", "layers_block_type", "mlp_layer_types", "no_rope_layers", "activation_sparsity_pattern",
              "moe_layers", "indexer_types")  # fmt: skip
"""Lists with an entry a layer."""


ALWAYS = ("head_dim", "num_experts_per_tok", "num_key_value_heads")
"""Sizes that some architectures leave open, and then take from larger ones."""


def config(model_type: str, folder: str | None, tokens: dict[str, int | None], vocab: int) -> Any:
    """The architecture's configuration at toy size; `folder`: its config.json has the real architecture;
    `tokens`: ids of the toy's own special tokens (`pad_token_id`, …).
    """
    from transformers import AutoConfig

    plain = AutoConfig.for_model(model_type)
    given = _real(folder) if folder else {}
    sizes = {name: size for name, size in SIZES.items() if _takes(plain, name) or given.get(name) is not None}
    if "qk_rope_head_dim" in sizes:
        sizes["head_dim"] = sizes["qk_rope_head_dim"]  # the turned part of latent attention
    if "kv_lora_rank" in sizes:
        sizes["num_key_value_heads"] = HEADS  # latent attention unpacks keys for every head
    lists = {name: given.get(name) or getattr(plain, name, None) for name in EACH_LAYER if _takes(plain, name)}
    kinds = {name: _kinds(each) for name, each in lists.items() if isinstance(each, list)}
    vocabulary = {"vocab_size": vocab} | (
        {"vocab_size_per_layer_input": vocab} if _takes(plain, "vocab_size_per_layer_input") else {}
    )
    return AutoConfig.for_model(model_type, **{**given, **sizes, **kinds, **tokens, **vocabulary})


def _real(folder: str) -> dict[str, Any]:
    """A real config.json without keys that are too large or do not apply."""
    config_read = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    config_read = {**config_read, **config_read.pop("text_config", {})}  # the text side of a multimodal model
    return {name: value for name, value in config_read.items() if name not in (*DROPPED, *EACH_LAYER)}


def _takes(config: Any, name: str) -> bool:
    """Whether an architecture has a size, and one that can be set."""
    if isinstance(getattr(type(config), name, None), property):
        return False
    return getattr(config, name, None) is not None or (name in ALWAYS and hasattr(config, name))


def _kinds(each: list[Any]) -> list[Any]:
    """As many entries as the toy has layers, of as many kinds as there are."""
    kinds = list(dict.fromkeys(map(str, each)))[:LAYERS]
    first = [next(value for value in each if str(value) == kind) for kind in kinds]
    return (first + each)[:LAYERS]
