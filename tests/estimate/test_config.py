"""A model's own config.json gives the same architecture as the catalogue; what is no plain decoder is refused with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from ftdsl import catalog
from ftdsl.estimate.architecture import NotModelledError, known
from ftdsl.estimate.config import from_config
from ftdsl.estimate.naming import by_name, guessed

FAMILIES = (
    "llama",
    "mistral",
    "mixtral",
    "granite",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "phi",
    "phi3",
    "falcon",
    "bloom",
)
PLAIN = [
    name
    for name, model in catalog.models().items()
    if model["family"] in FAMILIES
    and name not in ("Falcon-40B", "Falcon-180B", "PowerLM-3B", "Llama-3.3-Nemotron-Super-49B")
    and not (model.get("tower") or model.get("moe_ffn"))
]


def config(model: dict[str, Any]) -> dict[str, Any]:
    """What the model's config.json says of its sizes, by the names of transformers."""
    found = {
        "model_type": model["family"],
        "hidden_size": model["hidden"],
        "num_hidden_layers": model["layers"],
        "num_attention_heads": model["heads"],
        "num_key_value_heads": model["kv_heads"],
        "head_dim": model["head_dim"],
        "intermediate_size": model["ffn"],
        "vocab_size": model["vocab"],
        "tie_word_embeddings": model.get("tied", False),
    }
    if model.get("experts"):
        found |= {"num_local_experts": model["experts"], "num_experts_per_tok": model["experts_used"]}
    return found


@pytest.mark.parametrize("name", PLAIN)
def test_a_config_gives_the_published_total(name: str) -> None:
    model = dict(catalog.models()[name])
    assert from_config(config(model)).params == pytest.approx(model["params"], rel=0.003)


MLA = {"kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}
PUBLISHED = {
    # config.json of the hub's ids -> billions of parameters that their cards state
    "deepseek-ai/DeepSeek-V3": ({"model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads":
        128, "num_key_value_heads": 128, "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256,
        "num_experts_per_tok": 8, "n_shared_experts": 1, "first_k_dense_replace": 3, "vocab_size": 129280,
        "tie_word_embeddings": False, **MLA}, 671.0, 37.0),
    "Qwen/Qwen3-Next-80B-A3B-Instruct": ({"model_type": "qwen3_next", "hidden_size": 2048, "num_hidden_layers": 48,
        "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256, "intermediate_size": 5120, "num_experts": 512,
        "num_experts_per_tok": 10, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, "vocab_size": 151936,
        "linear_num_key_heads": 16, "linear_num_value_heads": 32, "tie_word_embeddings": False}, 80.0, 3.9),
    "meta-llama/Llama-4-Maverick-17B-128E": ({"model_type": "llama4", "text_config": {"model_type": "llama4_text",
        "hidden_size": 5120, "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
        "intermediate_size": 8192, "intermediate_size_mlp": 16384, "num_local_experts": 128, "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 2, "vocab_size": 202048, "tie_word_embeddings": False}}, 400.0, 17.0),
    "openai/gpt-oss-20b": ({"model_type": "gpt_oss", "hidden_size": 2880, "num_hidden_layers": 24, "num_attention_heads": 64,
        "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 2880, "num_local_experts": 32, "num_experts_per_tok": 4,
        "sliding_window": 128, "vocab_size": 201088, "tie_word_embeddings": False}, 20.9, 4.2),
    "Qwen/Qwen2.5-VL-7B-Instruct": ({"model_type": "qwen2_5_vl", "hidden_size": 3584, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "intermediate_size": 18944, "vocab_size": 152064,
        "tie_word_embeddings": False, "vision_config": {"model_type": "qwen2_5_vl", "hidden_size": 1280, "depth": 32,
        "intermediate_size": 3420, "spatial_merge_size": 2, "out_hidden_size": 3584, "hidden_act": "silu"}}, 8.29, 7.6),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_config_of_another_kind_gives_what_its_card_states(name: str) -> None:
    """Mixtures with dense layers and shared experts, latent and linear attention, windows, towers."""
    sizes, total, active = PUBLISHED[name]
    model = from_config(sizes, name)
    assert model.params / 1e9 == pytest.approx(total, rel=0.03)
    head = model.embedding * (1 if model.tied else 2)
    assert (model.layers * model.active_layer_linear + head) / 1e9 == pytest.approx(active, rel=0.1)


@pytest.mark.parametrize("name", catalog.models())
def test_a_published_total_is_close_to_what_the_sizes_give(name: str) -> None:
    """What the count lacks lies outside the layers: little, but where embeddings of each layer are most of a model."""
    model = known(name)
    assert model is not None
    lacking = abs(model.extra) / model.params
    assert lacking < (0.62 if "3n-E" in name or "4-E" in name else 0.18)


def test_windows_and_linear_layers_have_shorter_spans() -> None:
    gemma, hybrid, plain = (known(name) for name in ("Gemma-3-12B", "Qwen3-Next-80B-A3B", "Qwen3-8B"))
    assert gemma is not None and hybrid is not None and plain is not None
    assert gemma.span(32768) < 0.3 * 32768 and hybrid.span(32768) == 32768 / 4 and plain.span(32768) == 32768


@pytest.mark.parametrize(("key", "value", "reason"), [("is_encoder_decoder", True, "not a decoder"),
    ("state_size", 16, "state-space layers alone")])  # fmt: skip
def test_what_is_not_modelled_is_refused(key: str, value: object, reason: str) -> None:
    with pytest.raises(NotModelledError, match=reason):
        from_config(config(dict(catalog.models()["Llama-3-8B"])) | {key: value})


@pytest.mark.parametrize(
    ("name", "billions"),
    [("unsloth/Qwen3-8B-unsloth-bnb-4bit", 8.19), ("Qwen/QwQ-32B", 32.8), ("deepseek-ai/DeepSeek-R1-0528", 671.0),
     ("google/gemma-3-12b-it", 12.2), ("THUDM/glm-4-9b-chat", 9.4), ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 108.6)],
)  # fmt: skip
def test_names_of_the_hub(name: str, billions: float) -> None:
    model = by_name(name)
    assert model is not None and model.params / 1e9 == pytest.approx(billions, rel=0.01) and not model.uncertainty


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("somebody/my-13B-chat", 13.0),
        ("somebody/my-7b1", 7.1),
        ("somebody/mix-8x22B", 140.0),
        ("somebody/flash-120B-A12B", 120.0),
        ("zai-org/GLM-5.2", 744.0),
    ],
)
def test_the_last_resort_is_the_name_and_wide(name: str, billions: float) -> None:
    model = guessed(name)
    assert by_name(name) is None and model is not None
    assert model.params / 1e9 == pytest.approx(billions, rel=0.1) and model.uncertainty >= 0.1
    assert guessed("somebody/his-own") is None


@pytest.mark.parametrize(
    "name",
    ["Qwen3-0B", "x-0m", "x-0.0B", "x-0x7B", "x-8x0B", "x-7B-A0B", "x-30B-A0.0001B", "x-1B-A7B",
     f"x-{'9' * 400}B", f"x-{'9' * 400}x7B", f"x-8x{'9' * 400}B", f"x-30B-A{'9' * 400}B"],
)  # fmt: skip
def test_a_size_that_no_model_has_is_no_size(name: str) -> None:
    assert guessed(name) is None


def test_a_config_without_sizes_says_which() -> None:
    with pytest.raises(NotModelledError, match="no hidden_size"):
        from_config({"model_type": "llama"}, "./base")


def test_other_names_of_sizes() -> None:
    small = from_config(
        {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024}
    )
    assert small.params == 124_439_808  # GPT-2's 124M, as its model card counts them
