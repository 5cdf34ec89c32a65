"""The sizes of a decoder-only model: from the catalogue by name, from numbers, or (`config`) from a config.json."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any

from ftdsl import catalog
from ftdsl.record import frozen


class NotModelledError(ValueError):
    """What the estimator has no physics for: the message says what and why. It refuses instead of guessing."""


@frozen(eq=True)
class Architecture:
    """A decoder-only transformer; sizes in elements.

    `family` is transformers' model_type. `bias`: none, qkv or all. `norm`: rms, layer or layer-no-bias; `norms` of them a
    layer. `parallel`: attention and MLP read the same input. `extra`: parameters outside the pattern. `params`, where
    published, is trusted over the count.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    head_dim: int = 0
    name: str = ""
    family: str = "llama"
    tied: bool = False
    gated: bool = True
    bias: str = "none"
    norm: str = "rms"
    norms: int = 2
    qk_norm: bool = False
    parallel: bool = False
    positions: int = 0
    experts: int = 0
    experts_used: int = 0
    extra: int = 0
    window: int = 0

    @property
    def q(self) -> int:
        """Width of all query heads together."""
        return self.heads * (self.head_dim or self.hidden // self.heads)

    @property
    def kv(self) -> int:
        """Width of all key heads together (values the same)."""
        return self.kv_heads * (self.head_dim or self.hidden // self.heads)

    @property
    def linears(self) -> Mapping[str, tuple[int, int]]:
        """The linear maps of one layer (one expert) by canonical name: inputs, outputs."""
        h, f = self.hidden, self.ffn
        found = {"q": (h, self.q), "k": (h, self.kv), "v": (h, self.kv), "o": (self.q, h)}
        if self.gated:
            found["gate"] = (h, f)
        return found | {"up": (h, f), "down": (f, h)}

    @cached_property
    def attention_params(self) -> int:
        return self._weights("q", "k", "v", "o")

    @cached_property
    def expert_params(self) -> int:
        """Weights of the MLP, or of one expert."""
        return self._weights("gate", "up", "down")

    def _weights(self, *names: str) -> int:
        return sum(inner * outer for name, (inner, outer) in self.linears.items() if name in names)

    @cached_property
    def layer_linear(self) -> int:
        """Weights of all linear maps of a layer, all experts included: what quantisation reaches."""
        return self.attention_params + self.expert_params * max(1, self.experts)

    @cached_property
    def layer_params(self) -> int:
        h = self.hidden
        biases = {"none": 0, "qkv": self.q + 2 * self.kv, "all": self._biases}[self.bias]
        head_norms = 2 * (self.q // self.heads) if self.qk_norm else 0
        return self.layer_linear + h * self.experts + biases + head_norms + self.norms * self.norm_params

    @property
    def _biases(self) -> int:
        return sum(outer for _, outer in self.linears.values())

    @property
    def norm_params(self) -> int:
        return self.hidden * (2 if self.norm == "layer" else 1)

    @property
    def embedding(self) -> int:
        """Elements of the token embedding; the head has as many."""
        return self.vocab * self.hidden

    @property
    def outside(self) -> int:
        """Parameters outside the layers: embedding, head unless tied, positions, last norm."""
        heads = 1 if self.tied else 2
        return heads * self.embedding + self.positions * self.hidden + self.norm_params + self.extra

    @property
    def params(self) -> int:
        """All parameters; a tied head counts once."""
        return self.layers * self.layer_params + self.outside

    @property
    def active_layer_linear(self) -> int:
        """Weights of a layer that one token meets."""
        return self.attention_params + self.expert_params * max(1, self.experts_used)


@cache
def _by_hub() -> Mapping[str, str]:
    return {hub.lower(): name for name, model in catalog.models().items() for hub in model["hub"]}


def known(name: str) -> Architecture | None:
    """The architecture of a catalogue name (`Qwen3-8B`) or hub id (`Qwen/Qwen3-8B`), or None."""
    models = catalog.models()
    key = name if name in models else _by_hub().get(name.lower(), "")
    return _from_entry(key, models[key]) if key else None


def _from_entry(name: str, entry: Mapping[str, Any]) -> Architecture:
    sizes = {key: item for key, item in entry.items() if key not in ("hub", "source", "params")}
    return Architecture(name=name, **sizes)
