"""Published measurements (CSV) as set-ups of the estimator. Reads every value the format's description lists."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from ftdsl import catalog
from ftdsl.estimate.architecture import known
from ftdsl.estimate.setup import Setup
from ftdsl.record import record


@record
class Row:
    """One measurement: what was published, and its settings."""

    id: str
    source: str
    cells: dict[str, str]

    def number(self, key: str) -> float:
        """A cell as a number, 0 where it is empty."""
        return float(self.cells.get(key) or 0)


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
    forms = (plain, f"rtx{plain}", plain.removeprefix("nvidia").removeprefix("geforce"))
    name = next((one for form in forms for one in longest if form.startswith(one)), plain)
    return name, float(watts[1]) if watts else 0.0, "pcie" in note or "pcie" in text.lower()


def setup(row: Row) -> Setup:
    """The set-up of a row. Raises: ValueError (NotModelledError too), KeyError for what has no meaning."""
    c, n = row.cells, row.number
    name, watts, pcie = card(c["gpu"])
    return Setup(
        **_model(c),
        **_precision(c),
        **_batch(row),
        **_layout(row),
        card=name,
        card_memory=n("gpu_mem_gb"),
        power=watts,
        pcie_only=pcie,
        framework=c["framework"],
        lora_dropout=c["framework"] == "litgpt",
    )


def _model(c: dict[str, str]) -> dict[str, Any]:
    architecture = known(c["model"])
    if architecture is None:
        raise ValueError(f"no such model: {c['model']}")
    return {
        "architecture": architecture,
        "method": METHODS.get(c["method"], c["method"]),
        "lora_rank": int(float(c["lora_r"] or 0)),
        "lora_targets": targets(c["lora_targets"]),
        "trains_embeddings": c["method"] == "lora+emb",
        "kbit_prepare": c["kbit_prepare"] == "1",
    }


def _precision(c: dict[str, str]) -> dict[str, Any]:
    return {
        "quant": c["quant"] or "none",
        "base_dtype": c["base_dtype"] or "bf16",
        "train_dtype": c["train_dtype"] or "bf16",
        "master": c["master"] == "1",
        "autocast": c["autocast"] == "1",
        "optimizer": c["optimizer"].rstrip("?") or "adamw",
        "opt_in_backward": c["opt_in_bwd"] == "1",
        "attention": c["attn_impl"].rstrip("?") or "flash",
        "loss": c["loss_impl"].rstrip("?") or "hf_fp32_new",
        "norms": c["norm_impl"].rstrip("?") or "eager",
        "compile": c["compile"] == "1",
    }


def _batch(row: Row) -> dict[str, Any]:
    c, n = row.cells, row.number
    return {
        "seq_len": int(n("seq_len")),
        "seq_kind": c["seq_kind"],
        "micro_batch": int(n("micro_batch")) or 1,
        "accumulate": int(n("grad_accum")) or 1,
        "checkpointing": c["grad_ckpt"].strip("?") or "full",
        "offload_activations": c["act_offload"] == "1",
    }


def _layout(row: Row) -> dict[str, Any]:
    """The split of the world. `device_map` puts layers on cards one after another: a pipeline of one micro-batch."""
    c, n = row.cells, row.number
    strategy = c["strategy"].split("+")[0]
    split = {"tensor": int(n("tp")) or 1, "pipeline": int(n("pp")) or 1, "context": int(n("cp")) or 1}
    world = int(n("world")) or 1
    if strategy == "device_map":
        return split | {"strategy": strategy, "pipeline": world, "offload": c["offload"] or "none"}
    others = split["tensor"] * split["pipeline"] * split["context"]
    return split | {
        "strategy": strategy,
        "offload": c["offload"] or "none",
        "data": int(n("dp")) or max(1, world // others),
    }
