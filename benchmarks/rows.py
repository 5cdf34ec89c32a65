"""Published measurements (CSV) as set-ups of the estimator. Reads every value the format's description lists."""

from __future__ import annotations

import csv
import math
import re
from functools import cached_property
from pathlib import Path
from typing import Any

from ftdsl import catalog
from ftdsl.estimate.architecture import known
from ftdsl.estimate.loss import HELD
from ftdsl.estimate.setup import BYTES, CHECKPOINTING, QUANTS, STRATEGIES, Setup
from ftdsl.estimate.setup import METHODS as SETUP_METHODS
from ftdsl.record import frozen


@frozen
class Row:
    """One measurement: what was published, and its settings."""

    id: str
    source: str
    cells: dict[str, str]

    def number(self, key: str) -> float:
        """A cell as a number, 0 where it is empty. Raises: ValueError for what is none, or less."""
        found = float(self.cells.get(key) or 0)
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


def card(text: str) -> tuple[str, float, bool]:
    """The catalogue's name of a card (`A100-80G (400W)`), the power it is held to in W (0: its own), whether its links are
    PCIe. A name with more in it than the catalogue's is the longest that it begins with."""
    note = " ".join(re.findall(r"[(\[](.*?)[)\]]", text)).lower()
    plain = re.sub(r"[(\[].*?[)\]]", "", text).lower()
    plain = re.sub(r"[^a-z0-9]", "", re.sub(r"[-\s]\d+ ?gi?b?\b", "", plain))
    watts = re.search(r"(\d+) ?w\b", note)
    longest = sorted(catalog.gpus(), key=len, reverse=True)
    bare = plain.removeprefix("nvidia").removeprefix("geforce")
    forms = (bare, f"rtx{bare}", bare.removeprefix("rtx"), f"ascend{bare}")
    name = next((one for form in forms for one in longest if form.startswith(one)), plain)
    return name, float(watts[1]) if watts else 0.0, "pcie" in note or "pcie" in text.lower()


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
    "framework": ("hf", "composer", "litgpt", "torchtune", "torchtitan", "fsdp_qlora", "megatron", "xtuner", "colossal",
                  "automodel", "fms-fsdp"),
}  # fmt: skip
"""Words the format has in a column, which the estimator knows; another is an error and never taken for something like it."""

SILENT = {"method": "full", "quant": "none", "base_dtype": "bf16", "train_dtype": "bf16", "optimizer": "adamw",
          "grad_ckpt": "full", "attn_impl": "flash", "loss_impl": "hf_fp32_new", "norm_impl": "eager", "strategy": "single",
          "offload": "none", "framework": "hf", "micro_batch": "1", "grad_accum": "1", "world": "1"}  # fmt: skip
"""What is taken for a cell that is empty or only `?`: the benchmarks say of how many rows."""


def word(cells: dict[str, str], key: str) -> str:
    """A cell without `?` (inferred) and, of a strategy, what it is combined with. Raises: ValueError for a word that the format
    does not have."""
    said = cells.get(key, "").strip().rstrip("?")
    said = said.split("+")[0] if key == "strategy" else said
    if said and said not in WORDS[key]:
        raise ValueError(f"{key} is {said}, which has no estimate")
    return said or SILENT[key]


def taken(row: Row) -> dict[str, str]:
    """Of the cells a row leaves open, what was taken instead."""
    return {key: value for key, value in SILENT.items() if not row.cells.get(key, "").strip().rstrip("?")}


def setup(row: Row) -> Setup:
    """The set-up of a row. Raises: ValueError (NotModelledError too) for what has no meaning, or is missing."""
    c, n = row.cells, row.number
    name, watts, pcie = card(c["gpu"])
    if not n("seq_len"):
        raise ValueError("it does not say how long its sequences are")
    return Setup(
        **_model(c),
        **_precision(c),
        **_batch(row),
        **_layout(row),
        card=name,
        card_memory=n("gpu_mem_gb"),
        power=watts or (PCIE_A100 if pcie and name == "a100" else 0.0),
        pcie_only=pcie,
        framework=word(c, "framework"),
        lora_dropout=c["framework"] == "litgpt",
        fused_adapters=_fused_adapters(c),
    )


PCIE_A100 = 300.0
"""W of an A100 that is a PCIe card (its data sheet), of 400 that the module has."""


def _fused_adapters(c: dict[str, str]) -> bool:
    """Whether adapters run in kernels of their own (foak's, Unsloth's), which come with fused norms, of RMS, for quantised
    bases. The format has no column for it."""
    model = known(c["model"])
    return c["norm_impl"] == "fused" and c["quant"] not in ("", "none") and model is not None and model.norm == "rms"


def _model(c: dict[str, str]) -> dict[str, Any]:
    architecture = known(c["model"])
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
        "seq_len": int(n("seq_len")),
        "seq_kind": c["seq_kind"],
        "micro_batch": int(n("micro_batch")) or 1,
        "accumulate": int(n("grad_accum")) or 1,
        "checkpointing": word(c, "grad_ckpt"),
        "offload_activations": c["act_offload"] == "1",
    }


def _layout(row: Row) -> dict[str, Any]:
    """The split of the world. `device_map` puts layers on cards one after another: a pipeline of one micro-batch."""
    c, n = row.cells, row.number
    strategy = word(c, "strategy")
    split = {"tensor": int(n("tp")) or 1, "pipeline": int(n("pp")) or 1, "context": int(n("cp")) or 1}
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
