"""The sizes of a decoder-only model: from the catalogue by name, from numbers, or (`config`) from a config.json."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any

from ftdsl import catalog
from ftdsl.record import frozen, replace


class NotModelledError(ValueError):
    """The estimator has no model for this; the message says what and why."""


@frozen(eq=True)
class Architecture:
    """A decoder-only transformer; sizes in elements.

    `family` is transformers' model_type. `bias`: none, qkv or all. `norm`: rms, layer or layer-no-bias; `norms` of them a
    layer. `parallel`: attention and MLP read the same input. `extra`: parameters outside the pattern. `params`, where
    published, is trusted over the count.

    Mixtures: `ffn` is that of an expert unless `moe_ffn` is, and then that of the `dense_layers`; `shared_ffn`: width of the
    experts that every token meets. `attention_weights`: of a layer on average, where attention is not made of q, k, v, o of one
    shape (latent attention, linear attention, layers of several kinds). `linear_layers`: those without scores (linear attention,
    state space). `windowed`: layers whose scores reach `window` tokens. `tower`: parameters of what sees or hears, with its
    projector. `uncertainty`: how far sizes that are guessed may be off, as a part.
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
    windowed: int = 0
    moe_ffn: int = 0
    shared_ffn: int = 0
    dense_layers: int = 0
    attention_weights: int = 0
    linear_layers: int = 0
    tower: int = 0
    uncertainty: float = 0.0

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
        h, f = self.hidden, self.expert_ffn
        linears = {"q": (h, self.q), "k": (h, self.kv), "v": (h, self.kv), "o": (self.q, h)}
        if self.gated:
            linears["gate"] = (h, f)
        return linears | {"up": (h, f), "down": (f, h)}

    @property
    def expert_ffn(self) -> int:
        """Width of the MLP, or of one expert."""
        return self.moe_ffn or self.ffn

    @property
    def special(self) -> bool:
        """Whether layers are other than attention of one shape and an MLP."""
        return bool(self.attention_weights or self.linear_layers)

    @cached_property
    def attention_params(self) -> int:
        return self.attention_weights or self._weights("q", "k", "v", "o")

    @cached_property
    def _mixed(self) -> float:
        """The part of the layers that have experts."""
        return 1 - self.dense_layers / self.layers if self.experts else 0.0

    @cached_property
    def _width_weights(self) -> int:
        """Weights for each unit of width of an MLP."""
        return (3 if self.gated else 2) * self.hidden

    @cached_property
    def routed_params(self) -> float:
        """Weights of a layer's routed experts, on average over layers."""
        return self._mixed * self.experts * self.expert_ffn * self._width_weights

    @cached_property
    def dense_params(self) -> float:
        """Weights of a layer's MLPs that every token meets (shared experts, dense layers), on average over layers."""
        return (self._mixed * self.shared_ffn + (1 - self._mixed) * self.ffn) * self._width_weights

    @cached_property
    def active_ffn(self) -> float:
        """Width of all MLPs that a token meets in a layer, on average over layers."""
        return self._mixed * (self.experts_used * self.expert_ffn + self.shared_ffn) + (1 - self._mixed) * self.ffn

    @cached_property
    def expert_params(self) -> int:
        """Weights of the MLP, or of one expert."""
        return self._weights("gate", "up", "down")

    def _weights(self, *names: str) -> int:
        return sum(inner * outer for name, (inner, outer) in self.linears.items() if name in names)

    @cached_property
    def layer_linear(self) -> int:
        """Weights of all linear maps of a layer, all experts included: what quantisation reaches."""
        return self.attention_params + round(self.routed_params + self.dense_params)

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
        return heads * self.embedding + self.positions * self.hidden + self.norm_params + self.extra + self.tower

    @property
    def params(self) -> int:
        """All parameters; a tied head counts once."""
        return self.layers * self.layer_params + self.outside

    @property
    def active_layer_linear(self) -> int:
        """Weights of a layer that one token meets."""
        return self.attention_params + round(self.active_ffn * self._width_weights)

    def span(self, length: int) -> float:
        """Tokens back that a token's scores reach in a layer, on average over layers, of a sequence of that length: windows cut
        them, linear layers have none."""
        whole = self.layers - self.windowed - self.linear_layers
        return (whole * length + self.windowed * min(length, 2 * self.window)) / self.layers


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
    return trusting(Architecture(name=name, **sizes), int(entry.get("params", 0)))


def trusting(counted: Architecture, params: int) -> Architecture:
    """With the published number of parameters: what the count lacks (norms, biases, modules of one family alone) is put outside
    the layers. 0: nothing is published."""
    missing = params - counted.params if params else 0
    return replace(counted, extra=counted.extra + missing) if missing else counted
