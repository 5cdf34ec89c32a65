"""Published measurements (CSV) as set-ups of the estimator. Reads every value the format's description lists."""

from __future__ import annotations

import csv
import math
from functools import cached_property
from pathlib import Path
from typing import Any

from ftdsl import catalog
from ftdsl.catalog.cards import card_named
from ftdsl.estimate.fit import fit
from ftdsl.estimate.frameworks import traits_of
from ftdsl.estimate.loss import HELD
from ftdsl.estimate.naming import by_name, guessed
from ftdsl.estimate.setup import BYTES, CHECKPOINTING, QUANTS, STRATEGIES, Setup
from ftdsl.estimate.setup import METHODS as SETUP_METHODS
from ftdsl.record import frozen, replace


def unmarked(text: str) -> str:
    """A cell without the `?` that says it was inferred."""
    return text.strip().rstrip("?").strip()


@frozen
class Row:
    """One measurement: what was published, and its settings."""

    id: str
    source: str
    cells: dict[str, str]

    def number(self, key: str) -> float:
        """A cell as a number, 0 where it is empty. Raises: ValueError for what is none, or less."""
        found = float(unmarked(self.cells.get(key, "")) or 0)
        if not math.isfinite(found) or found < 0:
            raise ValueError(f"{key} is {self.cells[key]}")
        return found

    @cached_property
    def setup(self) -> Setup:
        """The set-up of the row, read once: fitting asks thousands of times. Raises: as `setup`."""
        return setup(self)


def read(path: Path) -> list[Row]:
    """All rows of a file."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Row(cells["id"], cells["source"], cells) for cells in csv.DictReader(file)]


ALIASES = {
    "c_attn": ("q", "k", "v"),
    "c_proj": ("o", "down"),
    "w1": ("up",),
    "w2": ("gate",),
    "mlp": ("gate", "up", "down"),
    "all": ("q", "k", "v", "o", "gate", "up", "down"),
}
"""Names of linear maps in Qwen's first models and in litgpt, by the estimator's."""

METHODS = {"qlora": "lora", "lora+emb": "lora"}


def targets(text: str) -> tuple[str, ...]:
    """The estimator's names of adapted linear maps."""
    names = [part for name in text.split(",") if name for part in ALIASES.get(name.strip(), (name.strip(),))]
    return tuple(dict.fromkeys(names))


WORDS: dict[str, tuple[str, ...]] = {
    "method": (*SETUP_METHODS, "qlora", "lora+emb"),
    "quant": QUANTS,
    "base_dtype": tuple(BYTES),
    "train_dtype": tuple(BYTES),
    "optimizer": ("adamw", "adamw_fused", "adamw8bit", "paged_adamw", "paged_adamw8bit", "decoupled_adamw", "sgd"),
    "grad_ckpt": CHECKPOINTING,
    "attn_impl": ("flash", "sdpa", "eager"),
    "loss_impl": tuple(HELD),
    "norm_impl": ("eager", "fused"),
    "strategy": STRATEGIES,
    "offload": ("none", "optim", "params"),
}
"""Words the format has in a column, which the estimator knows; another is an error and never taken for something like it. A
framework may be any: one that is not known has the traits of a modern one."""

OPEN = {"method": "full", "quant": "none", "base_dtype": "bf16", "train_dtype": "bf16", "offload": "none",
        "framework": "unknown", "micro_batch": "1", "grad_accum": "1", "world": "1"}  # fmt: skip
"""What is taken for a cell that is empty or only `?`, whatever the framework."""

BY_FRAMEWORK = {"grad_ckpt": "checkpointing", "loss_impl": "loss", "norm_impl": "norms", "attn_impl": "attention",
                "optimizer": "optimizer"}  # fmt: skip
"""Columns for which each framework has its own default (frameworks.Traits). Where it has none: the first that fits."""

LEAST = ("none", "selective", "full")
"""Kinds of checkpointing, the fastest first: an open cell of a framework without a default is the first that fits."""

UNKNOWN_LENGTH = 512
"""Tokens of the longest batch where a row has no length: what instruction data mostly come to. Its interval is wide."""


def is_open(text: str) -> bool:
    """Whether a cell is empty or only `?`."""
    return not unmarked(text)


def default_of(cells: dict[str, str], key: str) -> str:
    """What is taken for an open cell; "" where that depends on what fits."""
    if key in BY_FRAMEWORK:
        return str(getattr(traits_of(word(cells, "framework")), BY_FRAMEWORK[key]))
    if key == "strategy":
        return "ddp" if int(float(unmarked(cells.get("world", "")) or 1)) > 1 else "single"
    return OPEN[key]


def word(cells: dict[str, str], key: str) -> str:
    """A cell without `?` (inferred) and, of a strategy, what it is combined with. Raises: ValueError for a word that the format
    does not have."""
    text = unmarked(cells.get(key, ""))
    text = text.split("+")[0] if key == "strategy" else text
    if text and text not in WORDS.get(key, (text,)):
        raise ValueError(f"{key} is {text}, which has no estimate")
    return text or default_of(cells, key)


def taken(row: Row) -> dict[str, str]:
    """Of the cells a row leaves open, what was taken instead."""
    keys = (*OPEN, *BY_FRAMEWORK, "strategy")
    return {key: default_of(row.cells, key) or "what fits" for key in keys if is_open(row.cells.get(key, ""))}


KIN = {
    8: "rtx4060ti",
    12: "rtx3060",
    16: "a4000",
    24: "rtx3090",
    32: "v100",
    48: "a6000",
    80: "a100",
    96: "h20",
    141: "h200",
}
"""By memory in GB, a usual card: what a card that the catalogue does not have is taken for, with a wide interval."""


def _card(row: Row) -> dict[str, Any]:
    card = card_named(row.cells["gpu"])
    memory = row.number("gpu_mem_gb") or card.memory
    name = card.name or KIN[min(KIN, key=lambda size: abs(size - (memory or 80)))]
    return {
        "card": name,
        "card_memory": memory or float(catalog.gpus()[name].memory[-1]),
        "power": card.power,
        "pcie_only": card.pcie,
        "unknown": () if card.name else ("card",),
    }


def setup(row: Row) -> Setup:
    """The set-up of a row. Raises: ValueError (NotModelledError too) for what has no meaning, or is missing."""
    c = {key: unmarked(text) for key, text in row.cells.items()}
    framework = word(c, "framework")
    plain = Row(row.id, row.source, c)
    settings = _model(c) | _precision(c) | _batch(plain) | _layout(plain) | _card(plain)
    settings["unknown"] = (*settings["unknown"], *_inferred(row.cells))
    checkpointing = word(c, "grad_ckpt")
    found = Setup(
        **settings,
        checkpointing=checkpointing or LEAST[0],
        framework=framework,
        lora_dropout=traits_of(framework).packed_qkv,
        fused_adapters=_fused_adapters(c),
    )
    return found if checkpointing else _least(found)


def _least(found: Setup) -> Setup:
    """With the fastest kind of checkpointing that fits."""
    tried = [replace(found, checkpointing=kind) for kind in LEAST]
    return next((one for one in tried if fit(one).fits), tried[-1])


WEIGHTY = (
    "grad_ckpt",
    "loss_impl",
    "optimizer",
    "strategy",
    "master",
    "base_dtype",
    "train_dtype",
    "seq_len",
    "framework",
)
"""Columns that decide much of the memory or time: what is inferred or open there widens the interval."""


def _inferred(c: dict[str, str]) -> tuple[str, ...]:
    """Weighty columns that a row leaves open or marks as inferred."""
    return tuple(key for key in WEIGHTY if is_open(c.get(key, "")) or c[key].strip().endswith("?"))


def _fused_adapters(c: dict[str, str]) -> bool:
    """Whether adapters run in kernels of their own (foak's, Unsloth's), which come with fused norms, of RMS, for quantised
    bases. The format has no column for it."""
    model = by_name(c["model"])
    return c["norm_impl"] == "fused" and c["quant"] not in ("", "none") and model is not None and model.norm == "rms"


def _model(c: dict[str, str]) -> dict[str, Any]:
    architecture = by_name(c["model"]) or guessed(c["model"])
    if architecture is None:
        raise ValueError(f"no such model: {c['model']}")
    return {
        "architecture": architecture,
        "method": METHODS.get(word(c, "method"), word(c, "method")),
        "lora_rank": int(float(c["lora_r"] or 0)),
        "lora_targets": targets(c["lora_targets"]),
        "trains_embeddings": c["method"] == "lora+emb",
        "kbit_prepare": c["kbit_prepare"] == "1",
    }


def _precision(c: dict[str, str]) -> dict[str, Any]:
    return {
        "quant": word(c, "quant"),
        "base_dtype": word(c, "base_dtype"),
        "train_dtype": word(c, "train_dtype"),
        "master": c["master"] == "1",
        "autocast": c["autocast"] == "1",
        "optimizer": word(c, "optimizer"),
        "opt_in_backward": c["opt_in_bwd"] == "1",
        "attention": word(c, "attn_impl"),
        "loss": word(c, "loss_impl"),
        "norms": word(c, "norm_impl"),
        "compile": c["compile"] == "1",
    }


def _batch(row: Row) -> dict[str, Any]:
    c, n = row.cells, row.number
    return {
        "seq_len": int(n("seq_len")) or UNKNOWN_LENGTH,
        "seq_kind": c["seq_kind"] if n("seq_len") else "variable",
        "micro_batch": int(n("micro_batch")) or 1,
        "accumulate": int(n("grad_accum")) or 1,
        "offload_activations": c["act_offload"] == "1",
    }


def _layout(row: Row) -> dict[str, Any]:
    """The split of the world. `device_map` puts layers on cards one after another: a pipeline of one micro-batch."""
    c, n = row.cells, row.number
    strategy = word(c, "strategy")
    split = {
        "tensor": int(n("tp")) or 1,
        "pipeline": int(n("pp")) or 1,
        "context": int(n("cp")) or 1,
        "virtual": int(n("vp")) or 1,
    }
    world = int(n("world")) or 1
    if strategy == "device_map":
        return split | {"strategy": strategy, "pipeline": world, "offload": c["offload"] or "none"}
    others = split["tensor"] * split["pipeline"] * split["context"]
    if world % others:
        raise ValueError(f"{world} processes do not divide into tp x pp x cp of {others}")
    return split | {
        "strategy": strategy,
        "offload": word(c, "offload"),
        "data": int(n("dp")) or max(1, world // others),
    }
