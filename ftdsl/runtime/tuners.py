"""Adapters that PEFT lacks: a bottleneck after a sublayer, and a mixture of LoRA experts that is trained jointly.

A copy of this file is saved beside each such adapter as `load_adapter.py`. It needs torch and peft >= 0.21, and nothing else:

    from load_adapter import load
    model = load(AutoModelForCausalLM.from_pretrained(base), "path/to/adapter")

Both adapters have a `peft_type` of their own, so that PEFT alone refuses them instead of loading them as something else. Neither
can be merged into its base: their output is not linear in their input.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

BOTTLENECK = "FTDSL_BOTTLENECK"
MOE_LORA = "FTDSL_MOE_LORA"
LOADER = "load_adapter.py"

OUTPUTS = {
    "attention": ("o_proj", "out_proj", "attn.c_proj", "self_attn.dense", "attention.dense", "self_attention.dense"),
    "mlp": ("down_proj", "fc2", "mlp.c_proj", "dense_4h_to_h", "fc_out"),
}
"""Sublayer -> names of the linear layer that ends it, in the model families of transformers."""

ACTIVATIONS = {"relu": nn.functional.relu, "gelu": nn.functional.gelu, "silu": nn.functional.silu}


@dataclass
class BottleneckConfig(PeftConfig):  # type: ignore[misc]
    """h -> h + up(activation(down(h))) after a sublayer (Houlsby et al. 2019, arXiv:1902.00751).

    size: width of the bottleneck; sublayers: those that are followed by one; activation: relu, gelu or silu; dropout: share of
    the bottleneck; target_modules: names of the layers whose output is adapted, which follow from `sublayers` unless set.
    """

    size: int = field(default=64)
    sublayers: list[str] = field(default_factory=lambda: ["attention", "mlp"])
    activation: str = field(default="relu")
    dropout: float = field(default=0.0)
    target_modules: list[str] | str | None = field(default=None)
    exclude_modules: list[str] | str | None = field(default=None)
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = BOTTLENECK
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {self.activation}")
        if wrong := sorted(set(self.sublayers) - set(OUTPUTS)):
            raise ValueError(f"sublayers must be of {', '.join(OUTPUTS)}, not {', '.join(wrong)}")


@dataclass
class MoeLoraConfig(PeftConfig):  # type: ignore[misc]
    """A gate chooses `top_k` of `experts` low-rank updates for each token, and weighs them.

    r, lora_alpha, lora_dropout: as of LoRA, of one expert; balance: weight of the load-balance loss (Fedus et al. 2021,
    arXiv:2101.03961, equation 4), which the trainer adds.
    """

    r: int = field(default=8)
    lora_alpha: float = field(default=16)
    lora_dropout: float = field(default=0.0)
    experts: int = field(default=4)
    top_k: int = field(default=2)
    balance: float = field(default=0.01)
    target_modules: list[str] | str | None = field(default="all-linear")
    exclude_modules: list[str] | str | None = field(default=None)
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = MOE_LORA
        if not 1 <= self.top_k <= self.experts:
            raise ValueError(f"top_k must be from 1 to experts = {self.experts}, not {self.top_k}")


def _features(layer: nn.Module) -> tuple[int, int]:
    """(inputs, outputs) of a linear layer: torch's, a quantised one, or GPT-2's. Raises: TypeError."""
    base = layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer
    inputs, outputs = getattr(base, "in_features", None), getattr(base, "out_features", None)
    if isinstance(inputs, int) and isinstance(outputs, int):
        return inputs, outputs
    if hasattr(base, "nf") and getattr(base, "weight", None) is not None:
        return int(base.weight.shape[0]), int(base.nf)
    raise TypeError(f"only linear layers can be adapted, not {type(base).__name__}")


class _Layer(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """A linear layer with adapters by name."""

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: Any) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.in_features, self.out_features = _features(base_layer)
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self.configs: dict[str, Any] = {}
        for name in self.adapter_layer_names:
            setattr(self, name, nn.ParameterDict())
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: Any) -> None:
        """Add an adapter, or start it anew."""
        self.configs[adapter_name] = config
        for name, values in self.initial(config).items():
            getattr(self, name)[adapter_name] = nn.Parameter(values)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def initial(self, config: Any) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        raise ValueError(NOT_MERGED)

    def unmerge(self) -> None:
        raise ValueError(NOT_MERGED)

    @property
    def _shown(self) -> Iterator[str]:
        if not self.disable_adapters:
            yield from (name for name in self.active_adapters if name in self.configs)


NOT_MERGED = "this adapter cannot be merged into its base; export it with its loader"


class BottleneckLayer(_Layer):
    """A linear layer whose output goes through a bottleneck with a residual. down: (size, out), up: (out, size)."""

    adapter_layer_names = ("bottleneck_down", "bottleneck_down_bias", "bottleneck_up", "bottleneck_up_bias")

    def initial(self, config: BottleneckConfig) -> dict[str, torch.Tensor]:
        """`up` is zero, so that training starts from the base."""
        down = torch.empty(config.size, self.out_features)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5))
        zeros = torch.zeros
        return {
            "bottleneck_down": down,
            "bottleneck_down_bias": zeros(config.size),
            "bottleneck_up": zeros(self.out_features, config.size),
            "bottleneck_up_bias": zeros(self.out_features),
        }

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        result: torch.Tensor = self.base_layer(x, *args, **kwargs)
        for name in self._shown:
            config, down = self.configs[name], self.bottleneck_down[name]
            hidden = nn.functional.linear(result.to(down.dtype), down, self.bottleneck_down_bias[name])
            hidden = nn.functional.dropout(ACTIVATIONS[config.activation](hidden), config.dropout, self.training)
            added = nn.functional.linear(hidden, self.bottleneck_up[name], self.bottleneck_up_bias[name])
            result = result + added.to(result.dtype)
        return result


@dataclass
class Routing:
    """What the gate of one layer did since it was last read: sums over tokens.

    balance: load-balance losses with their graph; load: times each expert was chosen; entropy: of the gate, in nats.
    """

    balance: list[torch.Tensor] = field(default_factory=list)
    load: torch.Tensor | None = None
    entropy: float | torch.Tensor = 0.0
    tokens: int = 0


class MoeLoraLayer(_Layer):
    """A linear layer with a gate and experts. gate: (experts, in), A: (experts * r, in), B: (out, experts * r)."""

    adapter_layer_names = ("moe_lora_gate", "moe_lora_A", "moe_lora_B")

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: Any) -> None:
        super().__init__(base_layer, adapter_name, config)
        self.routing = Routing()

    def initial(self, config: MoeLoraConfig) -> dict[str, torch.Tensor]:
        """B is zero, so that training starts from the base; gates differ, or all tokens would choose the same experts."""
        width = config.experts * config.r
        gate, down = torch.empty(config.experts, self.in_features), torch.empty(width, self.in_features)
        for matrix in (gate, down):
            nn.init.kaiming_uniform_(matrix, a=math.sqrt(5))
        return {"moe_lora_gate": gate, "moe_lora_A": down, "moe_lora_B": torch.zeros(self.out_features, width)}

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        result: torch.Tensor = self.base_layer(x, *args, **kwargs)
        for name in self._shown:
            config, down = self.configs[name], self.moe_lora_A[name]
            inputs = x.to(down.dtype)
            weights = self._weights(inputs, self.moe_lora_gate[name], config)
            inputs = nn.functional.dropout(inputs, config.lora_dropout, self.training)
            hidden = nn.functional.linear(inputs, down).unflatten(-1, (config.experts, config.r))
            mixed = (hidden * weights.unsqueeze(-1)).flatten(-2)
            added = nn.functional.linear(mixed, self.moe_lora_B[name]) * (config.lora_alpha / config.r)
            result = result + added.to(result.dtype)
        return result

    def _weights(self, inputs: torch.Tensor, gate: torch.Tensor, config: MoeLoraConfig) -> torch.Tensor:
        """Weights of the experts by token (…, experts); those not chosen have 0, the others add up to 1."""
        shares = nn.functional.linear(inputs, gate).float().softmax(-1)
        best, chosen = shares.topk(config.top_k, dim=-1)
        weights = torch.zeros_like(shares).scatter(-1, chosen, best / best.sum(-1, keepdim=True))
        if self.training:
            self._record(shares.flatten(0, -2), chosen.flatten(0, -2), config)
        return weights.to(inputs.dtype)

    def _record(self, shares: torch.Tensor, chosen: torch.Tensor, config: MoeLoraConfig) -> None:
        counts = torch.zeros(config.experts, device=shares.device)
        counts.scatter_add_(0, chosen.flatten(), torch.ones(chosen.numel(), device=shares.device))
        if torch.is_grad_enabled():
            self.routing.balance.append(config.experts * (counts / chosen.numel() * shares.mean(0)).sum())
        with torch.no_grad():
            entropy = -(shares * shares.clamp_min(1e-9).log()).sum()
            self.routing.load = counts if self.routing.load is None else self.routing.load + counts
            self.routing.entropy = self.routing.entropy + entropy
            self.routing.tokens += shares.shape[0]


class _Model(BaseTuner):  # type: ignore[misc]
    """Puts layers of one class where the config says."""

    layer: type[_Layer]
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 (PEFT's own attribute)

    def _create_and_replace(self, config: Any, adapter_name: str, target: Any, target_name: str, parent: Any, current_key: str,
                            **kwargs: Any) -> None:  # fmt: skip
        if isinstance(target, self.layer):
            target.update_layer(adapter_name, config)
            return
        module = self.layer(target, adapter_name, config)
        if adapter_name not in self.active_adapters:
            module.requires_grad_(False)
        self._replace_module(parent, target_name, module, target)

    def _check_merge_allowed(self) -> None:
        raise ValueError(NOT_MERGED)

    def merge_adapter(self, adapter_names: list[str] | None = None, safe_merge: bool = False) -> None:
        raise ValueError(NOT_MERGED)


class BottleneckModel(_Model):
    """A model with bottlenecks."""

    prefix = "bottleneck_"
    layer = tuner_layer_cls = BottleneckLayer

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        """The layers that end the sublayers. Raises: ValueError if the model has none of these names."""
        if peft_config.target_modules is None:
            names = [name for name, _ in self.model.named_modules()]
            targets: list[str] = []
            for sublayer in peft_config.sublayers:
                ends = [end for end in OUTPUTS[sublayer] if any(f".{name}".endswith(f".{end}") for name in names)]
                if not ends:
                    raise ValueError(
                        f"no layer ends the {sublayer} of this model under a known name: {OUTPUTS[sublayer]}"
                    )
                targets += ends
            peft_config.target_modules = targets
        return peft_config


class MoeLoraModel(_Model):
    """A model with mixtures of LoRA experts."""

    prefix = "moe_lora_"
    layer = tuner_layer_cls = MoeLoraLayer


_TUNERS = {BOTTLENECK: (BottleneckConfig, BottleneckModel), MOE_LORA: (MoeLoraConfig, MoeLoraModel)}


def register() -> None:
    """Make both adapters known to PEFT in this process. Of several copies of this file the first one counts."""
    for name, (config, model) in _TUNERS.items():
        PEFT_TYPE_TO_CONFIG_MAPPING.setdefault(name, config)
        PEFT_TYPE_TO_TUNER_MAPPING.setdefault(name, model)
        PEFT_TYPE_TO_PREFIX_MAPPING.setdefault(name, model.prefix)


def load(model: Any, folder: str | Path, **options: Any) -> PeftModel:
    """A base model with the adapter of a folder on it. options: those of `PeftModel.from_pretrained`."""
    register()
    return PeftModel.from_pretrained(model, folder, **options)


def save_loader(folder: str | Path) -> None:
    """A copy of this file beside an adapter."""
    shutil.copyfile(__file__, Path(folder) / LOADER)


# --- what the trainer needs of a mixture


def layers_of(model: nn.Module) -> list[MoeLoraLayer]:
    return [module for module in model.modules() if isinstance(module, MoeLoraLayer)]


def balance_loss(model: nn.Module) -> torch.Tensor | None:
    """Weighted load-balance loss of the forward passes since the last call; None without one. Perfect balance gives `balance`.

    Padding counts as tokens. Passes that are computed again for the backward pass (checkpointing) are dropped by the next call
    of `forget`.
    """
    losses = []
    for layer in layers_of(model):
        weight = next((layer.configs[name].balance for name in layer._shown), 0.0)
        losses += [weight * loss for loss in layer.routing.balance]
        layer.routing.balance.clear()
    return torch.stack(losses).mean() if losses else None


def forget(model: nn.Module) -> None:
    """Drop the load-balance losses that no step has used."""
    for layer in layers_of(model):
        layer.routing.balance.clear()


def routing_of(model: nn.Module) -> dict[str, float]:
    """Gate entropy (a share of its maximum) and each expert's share of the load, over layers, since the last call."""
    entropies: list[float] = []
    loads: list[torch.Tensor] = []
    for layer in layers_of(model):
        seen, layer.routing = layer.routing, Routing()
        if seen.load is not None and seen.tokens and len(seen.load) > 1:
            entropies.append(float(seen.entropy) / seen.tokens / math.log(len(seen.load)))
            loads.append((seen.load / seen.load.sum()).cpu())
    if not loads:
        return {}
    mean = torch.stack(loads).mean(0)
    shares = {f"expert_load/{number}": round(float(share), 6) for number, share in enumerate(mean)}
    worst = max(float(load.max()) for load in loads)
    return {"gate_entropy": sum(entropies) / len(entropies), "expert_load/max": worst, **shares}


register()
