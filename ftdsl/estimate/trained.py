"""How many weights of a model are trained, by method: all, some layers, or what an adapter adds. In elements."""

from __future__ import annotations

from collections.abc import Callable

from ftdsl.estimate.setup import Setup

ADAPTER_PROMPT = 10
"""LLaMA-Adapter's prompt length; two layers have none (arXiv:2303.16199, and litgpt's adapter.py)."""

MLP = ("gate", "up", "down")


def adapter(setup: Setup, layers: int) -> float:
    """Elements of the adapters of so many layers on one GPU. PEFT splits nothing by tensor parallelism but what it hangs on.

    DoRA has a magnitude for each output besides (arXiv:2402.09353); OFT turns the inputs (`rotation`).
    """
    if setup.method == "lora":
        a, rank = setup.architecture, setup.lora_rank
        head = a.hidden + a.vocab if "head" in setup.lora_targets else 0
        maps = _adapted(setup, lambda inner, outer: rank * (inner + outer) + (outer if setup.dora else 0))
        return layers * maps + rank * head
    if setup.method == "oft":
        return layers * _adapted(setup, lambda inner, outer: rotation(setup, inner))
    return _llama_adapter(setup, layers)


def rotation(setup: Setup, inner: int) -> float:
    """Elements that turn an input of so many features: a skew-symmetric matrix for each block (arXiv:2306.07280; peft,
    oft/layer.py: OFTRotationModule)."""
    block = max(1, min(setup.oft_block, inner))
    return (inner // block) * block * (block - 1) / 2


def _adapted(setup: Setup, size: Callable[[int, int], float]) -> float:
    """A size of a map, by its inputs and outputs, over all adapted maps of a layer; every expert has its own."""
    a = setup.architecture
    return sum(
        size(inner, outer) * (max(1, a.experts) if name in MLP else 1)
        for name, (inner, outer) in a.linears.items()
        if name in setup.lora_targets
    )


def _llama_adapter(setup: Setup, layers: int) -> float:
    a = setup.architecture
    prompts = max(0, layers - 2) * (ADAPTER_PROMPT * a.hidden + a.heads)
    if setup.method == "adapter":
        return prompts
    if setup.method == "adapter_v2":
        # a bias and a scale for each output of every linear map, the head's too (litgpt, adapter_v2.py: AdapterV2Linear)
        scales = sum(2 * outer for _, outer in a.linears.values())
        return prompts + layers * (scales + a.norms * a.norm_params) + 2 * a.vocab * layers / a.layers
    return 0.0


def crossed(setup: Setup) -> int:
    """Layers that the backward pass goes through: all, but for the lower ones that are frozen when the last few are trained,
    which LLaMA-Factory does not checkpoint either (model_utils/checkpointing.py)."""
    layers = setup.architecture.layers
    return min(setup.trained_layers, layers) if setup.method == "freeze" and not setup.trained_first else layers
