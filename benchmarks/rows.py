"""Published measurements (CSV) as set-ups of the estimator. Reads every value the format's description lists."""

from __future__ import annotations

import csv
import re
from pathlib import Path

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
    "head": ("head",),
    "all": ("q", "k", "v", "o", "gate", "up", "down"),
}


def targets(text: str) -> tuple[str, ...]:
    names = [part for name in text.split(",") if name for part in ALIASES.get(name.strip(), (name.strip(),))]
    return tuple(dict.fromkeys(names))


def card(text: str) -> str:
    plain = re.sub(r"[(\[].*?[)\]]", "", text).lower()
    plain = re.sub(r"-\d+g(b)?\b", "", plain)
    return re.sub(r"[^a-z0-9]", "", plain)


def setup(row: Row) -> Setup:
    """The set-up of a row. Raises: ValueError (NotModelledError too) for a value that has no meaning."""
    c = row.cells
    architecture = known(c["model"])
    if architecture is None:
        raise ValueError(f"no such model: {c['model']}")
    strategy, *_ = c["strategy"].split("+")
    method = {"qlora": "lora", "lora+emb": "lora"}.get(c["method"], c["method"])
    n = row.number
    return Setup(
        architecture=architecture,
        method=method,
        lora_rank=int(n("lora_r")),
        lora_targets=targets(c["lora_targets"]),
        trains_embeddings=c["method"] == "lora+emb",
        quant=c["quant"] or "none",
        base_dtype=c["base_dtype"],
        train_dtype=c["train_dtype"],
        master=c["master"] == "1",
        autocast=c["autocast"] == "1",
        optimizer=c["optimizer"].rstrip("?") or "adamw",
        opt_in_backward=c["opt_in_bwd"] == "1",
        kbit_prepare=c["kbit_prepare"] == "1",
        seq_len=int(n("seq_len")),
        seq_kind=c["seq_kind"],
        micro_batch=int(n("micro_batch")) or 1,
        accumulate=int(n("grad_accum")) or 1,
        checkpointing=c["grad_ckpt"].replace("?", "") or "full",
        offload_activations=c["act_offload"] == "1",
        attention=c["attn_impl"],
        loss=c["loss_impl"],
        norms=c["norm_impl"],
        compile=c["compile"] == "1",
        strategy=strategy,
        offload=c["offload"],
        data=int(n("dp")) or 1,
        tensor=int(n("tp")) or 1,
        pipeline=int(n("pp")) or 1,
        context=int(n("cp")) or 1,
        card=card(c["gpu"]),
        card_memory=n("gpu_mem_gb"),
        framework=c["framework"],
        lora_dropout=c["framework"] == "litgpt",
    )
