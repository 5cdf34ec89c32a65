"""A model's own config.json gives the same architecture as the catalogue; what is no plain decoder is refused with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from ftdsl import catalog
from ftdsl.estimate.architecture import NotModelledError
from ftdsl.estimate.config import from_config

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
    if model["family"] in FAMILIES and name not in ("Falcon-40B", "PowerLM-3B")
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
    assert from_config(config(model)).params == model["params"]


@pytest.mark.parametrize(
    ("key", "reason"),
    [("vision_config", "reads images"), ("kv_lora_rank", "latent attention"), ("n_shared_experts", "shared experts")],
)
def test_what_is_not_modelled_is_refused(key: str, reason: str) -> None:
    with pytest.raises(NotModelledError, match=reason):
        from_config(config(dict(catalog.models()["Llama-3-8B"])) | {key: 1})


def test_a_config_without_sizes_says_which() -> None:
    with pytest.raises(NotModelledError, match="no hidden_size"):
        from_config({"model_type": "llama"}, "./base")


def test_other_names_of_sizes() -> None:
    small = from_config(
        {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024}
    )
    assert small.params == 124_439_808  # GPT-2's 124M, as its model card counts them
