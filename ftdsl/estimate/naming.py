"""A model by the name that people write: exactly, by its core without maker and endings, or by the size it states.

What a size in a name leaves open is taken from a model of the catalogue that is about as large, and the estimate knows how unsure
that is (`Architecture.uncertainty`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from ftdsl import catalog
from ftdsl.estimate.architecture import Architecture, known, trusting
from ftdsl.record import replace

GUESSED_DENSE, GUESSED_MIXTURE, GUESSED_VERSION = 0.1, 0.2, 0.15
"""How far memory may be off, as a part, where sizes are guessed: of a dense model by its size, of a mixture, of a model that has
the name of another one with more behind it."""

_ENDINGS = re.compile(
    r"[-_.](?:instruct|chat|base|it|pt|hf|sft|dpo|rlhf|thinking|reasoning|preview|bnb|4bit|8bit|int4|int8|gptq|awq|fp8|bf16|fp16|gguf"
    r"|mlx|unsloth|dynamic|text|v0\.\d+|v1(?:\.\d+)?|\d{4}|\d{6,8}|\d+k|1m|latest)$"
)
_ACTIVE = re.compile(r"(?<![a-z0-9.])a(\d+(?:\.\d+)?)b(?![a-z])")
_EXPERTS = re.compile(r"(?<![a-z0-9.])(\d+)x(\d+(?:\.\d+)?)b(?![a-z])")
_SIZE = re.compile(r"(?<![a-z0-9.])(?:e)?(\d+(?:[._]\d+)?[bmt]|\d+[bmt]\d)(?![a-z0-9])")
"""`7B`, `0.6b`, `560m`, and BLOOM's `7b1`, which is 7.1 billion."""
_UNITS = {"m": 1e6, "b": 1e9, "t": 1e12}
_SIZES = 1e6, 1e14
"""Parameters that a name can mean: `Qwen3-0B` and `run-99999999999999B` state no size."""


def by_name(name: str) -> Architecture | None:
    """Of the catalogue: by name or hub id, else by the core of the name (`unsloth/Qwen3-8B-bnb-4bit` is Qwen3-8B)."""
    if exact := known(name):
        return exact
    core = core_of(name)
    if (entry := _cores().get(core)) and (entry_sizes := known(entry)):
        return entry_sizes
    return None


def by_version(name: str) -> Architecture | None:
    """The newest model of the catalogue whose name differs in its version alone (GLM-5.2 is taken for GLM-5)."""
    entry = _newest_by_kind().get(_kind(core_of(name)))
    relative = known(entry) if entry else None
    return replace(relative, name=name, uncertainty=GUESSED_VERSION) if relative else None


def guessed(name: str) -> Architecture | None:
    """A guess: a model whose name differs by version, else the size in the name."""
    return by_version(name) or by_size(name)


def by_size(name: str) -> Architecture | None:
    """A model of the size that a name states (`My-Llama-13B`, `mix-8x7b`, `Any-30B-A3B`), with what is unsure; None where it
    states none."""
    text = _base(name)
    if mixed := _EXPERTS.search(text):
        count, each = float(mixed[1]), float(mixed[2]) * 1e9
        # attention and embeddings are shared, a sixth of a model
        total = each * (1 + 0.83 * (count - 1))
        if count < 1 or not _is_size(each) or not _is_size(total):
            return None
        return _scaled(_reference("Mixtral-8x7B"), total, GUESSED_MIXTURE, name)
    total = next((_number(stated) for stated in _SIZE.findall(_ACTIVE.sub(" ", text))), 0.0)
    if not _is_size(total):
        return None
    if active := _ACTIVE.search(text):
        met = float(active[1]) * 1e9
        return _mixture(total, met, name) if _is_size(met) and met <= total else None
    return _scaled(_nearest(total), total, GUESSED_DENSE, name)


def _is_size(params: float) -> bool:
    return _SIZES[0] <= params <= _SIZES[1]


def _number(stated: str) -> float:
    """Parameters: `0_6b` is 0.6e9, `7b1` is 7.1e9."""
    (unit,) = set(stated) & set(_UNITS)
    return float(stated.replace("_", ".").replace(unit, "." if not stated.endswith(unit) else "")) * _UNITS[unit]


def core_of(name: str) -> str:
    """The name without maker and without endings that change no size."""
    text = _base(name)
    while (shorter := _ENDINGS.sub("", text)) != text:
        text = shorter
    return text.replace("_", "-").removeprefix("meta-")


def _base(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()


@cache
def _cores() -> Mapping[str, str]:
    cores: dict[str, str] = {}
    for name, entry in catalog.models().items():
        for text in (name, *entry["hub"]):
            cores.setdefault(core_of(text), name)
    return cores


def _kind(core: str) -> str:
    """A name without versions: numbers that are no sizes."""
    parts = [part if _SIZE.fullmatch(part) or _ACTIVE.fullmatch(part) or _EXPERTS.fullmatch(part) else re.sub(r"[\d.]+", "", part)
             for part in core.split("-")]  # fmt: skip
    return "-".join(part for part in parts if part)


@cache
def _newest_by_kind() -> Mapping[str, str]:
    newest: dict[str, tuple[list[int], str]] = {}
    for core, name in _cores().items():
        version = [int(number) for number in re.findall(r"\d+", core)]
        kind = _kind(core)
        if kind not in newest or version > newest[kind][0]:
            newest[kind] = version, name
    return {kind: name for kind, (_, name) in newest.items()}


def _reference(name: str) -> Architecture:
    reference = known(name)
    assert reference is not None, name
    return reference


REFERENCES = ("Qwen2.5-0.5B", "Llama-3.2-1B", "Llama-3.2-3B", "Qwen3-4B", "Llama-3-8B", "Qwen3-14B", "Qwen3-32B", "Llama-3-70B",
              "Llama-3.1-405B")  # fmt: skip
"""Dense models that others are shaped like."""


def _nearest(total: float) -> Architecture:
    models = [_reference(name) for name in REFERENCES]
    return min(models, key=lambda model: abs(model.params - total) / min(model.params, total))


def _scaled(like: Architecture, total: float, uncertainty: float, name: str) -> Architecture:
    """A model of so many parameters shaped like another: each of width, MLP and depth takes its part of the difference."""
    factor = (total / like.params) ** (1 / 3)
    shape = replace(
        like,
        name=name,
        hidden=_round(like.hidden * factor, 64),
        ffn=_round(like.ffn * factor, 64),
        moe_ffn=_round(like.moe_ffn * factor, 64) if like.moe_ffn else 0,
        layers=max(1, round(like.layers * factor)),
        heads=max(like.kv_heads, round(like.heads * factor / like.kv_heads) * like.kv_heads),
        uncertainty=uncertainty,
    )
    return trusting(shape, round(total))


def _mixture(total: float, active: float, name: str) -> Architecture:
    """A mixture by what it has and what a token meets, shaped like Qwen3-30B-A3B."""
    like = _reference("Qwen3-30B-A3B")
    met = like.layers * like.active_layer_linear + 2 * like.embedding
    factor = (active / met) ** (1 / 3)
    shape = replace(
        like,
        name=name,
        hidden=_round(like.hidden * factor, 64),
        moe_ffn=_round(like.moe_ffn * factor, 64),
        layers=max(1, round(like.layers * factor)),
        heads=max(like.kv_heads, round(like.heads * factor / like.kv_heads) * like.kv_heads),
        uncertainty=GUESSED_MIXTURE,
    )
    expert = shape.layers * 3 * shape.hidden * shape.moe_ffn
    missing = total - (shape.params - shape.layers * shape.routed_params)
    shape = replace(shape, experts=max(shape.experts_used, round(missing / expert)))
    return trusting(shape, round(total))


def _round(size: float, step: int) -> int:
    return max(step, round(size / step) * step)
