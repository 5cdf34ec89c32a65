"""What trainers and trackers call the quantities they log -> one name for each, which is the Trainer's where it has one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

STEPS = (
    "step", "current_steps", "global_step", "train/global_step", "trainer/global_step", "train/step", "global_steps",
    "iteration", "iter", "completed_steps", "update", "num_updates", "global_step/max_steps", "_step",
)  # fmt: skip
"""Keys of the optimizer step, the first that is there counts; `_step` of W&B counts its own calls."""
_HELD_OUT = re.compile(
    r"(?:^|/)(?:eval|val|valid|validation|test|held_?out)[/_]|(?:loss)/(?:eval|val|valid|validation)$"
)
_TRAINING = re.compile(r"^(?:train|training|trainer)/")
_LOSS = frozenset(
    ("loss", "train_loss", "training_loss", "lm_loss", "loss/train", "ce_loss", "total_loss", "loss_mean", "train_lm_loss",
     "cross_entropy", "nll_loss", "loss_metrics/global_avg_loss", "global_avg_loss", "reduced_train_loss"))  # fmt: skip
_NAMES = {
    "lr": "learning_rate", "learning-rate": "learning_rate", "lr-adamw": "learning_rate", "train_lr": "learning_rate",
    "gradient_norm": "grad_norm", "global_grad_norm": "grad_norm", "total_grad_norm": "grad_norm", "grad-norm": "grad_norm",
    "gnorm": "grad_norm", "total_norm": "grad_norm", "optim/total_grad_norm": "grad_norm", "l2_norm/grad/global": "grad_norm",
    "epochs": "epoch", "trainer/epoch": "epoch",
    "_runtime": "elapsed", "elapsed_time": "elapsed", "elapsed_seconds": "elapsed", "wall_time": "elapsed",
    "step_time": "seconds", "iter_time": "seconds", "time_per_step": "seconds", "seconds_per_step": "seconds",
    "train_step_timing": "seconds", "time_metrics/end_to_end(s)": "seconds",
    "tps": "throughput", "tokens_per_second": "throughput", "tokens_per_sec": "throughput", "tokens/sec": "throughput",
    "tokens_per_second_per_gpu": "throughput", "throughput(tps)": "throughput", "samples_per_second": "throughput",
    "throughput/tokens_per_sec": "throughput", "samples_per_sec": "throughput",
    "memory_bytes": "memory", "reserved_bytes": "memory", "rss_bytes": "memory", "gpu_memory": "memory",
    "vram_reserved": "memory",
    "peak_memory_reserved": "memory", "memory/max_reserved(gib)": "memory", "max_memory_reserved": "memory",
    "memory/device_reserved (gib)": "memory", "memory/max_mem_reserved(gib)": "memory", "memory_gib": "memory",
}  # fmt: skip
_KINDS = (
    ("throughput",
    re.compile(r"(?:^|[/_])(?:tok(?:en)?s?|samples?|iter(?:ation)?s?|steps?|it)(?:_per_|/|_?p)(?:s|sec|second)(?:\W|_|$)"
    r"|^tokens/train_per_sec|^train_speed\(iter/s\)$|^t[gp]s$")), ("seconds",
    re.compile(r"(?:^|[/_])(?:step|iter(?:ation)?)_(?:time|timing)(?:_m?s|_sec(?:onds)?|_in_m?s|_\(m?s\))?$"
    r"|(?:^|[/_])(?:m?s|sec(?:ond)?s?|time)_?(?:per_|/)(?:step|it(?:er(?:ation)?)?)(?:_m?s|_\(m?s\))?$")), ("memory",
    re.compile(r"^(?:(?:gpu|cuda|vram|device|peak|max|cpu|rss|host|process|torch)[/_.]?)*(?:mem(?:ory)?|vram|rss)"
    r"(?:[/_](?:max|peak|device|mem|active|alloc(?:ated)?|reserved|used|usage|gpu))*[/_ ]?\(?(?:[gmk]i?b|bytes)?\)?$")),
)  # fmt: skip
"""Series that nobody calls alike -> how their names are made. Units do not matter: what is asked is whether they grow."""
SKIPPED = frozenset(
    (*STEPS, "total_steps", "total_flos", "percentage", "remaining_time", "remaining", "event", "time", "schema", "_timestamp",
     "max_steps", "timestamp"))  # fmt: skip
GIB = 1 << 30


@lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """Our name of a series; "" for what is no series of a training: the step itself, other values of an evaluation, sums."""
    name = name.rpartition(" - ")[2].strip().lower().replace(" ", "_").replace("grad-norm", "grad_norm")
    if name in SKIPPED:
        return ""
    if _HELD_OUT.search(name):
        last = name.rpartition("/")[2]
        return "eval_loss" if re.fullmatch(r"(?:[a-z]+_)?(?:lm_)?loss|eval|val|valid|validation", last) else ""
    name = _TRAINING.sub("", name)
    if name in _LOSS:
        return "loss"
    if name in SKIPPED or (name.startswith("train_") and name.endswith("_per_second")):
        return ""  # a mean over the run, of the Trainer's last row
    ours = _NAMES.get(name) or next((kind for kind, form in _KINDS if form.search(name)), "")
    return ours or ("" if name.startswith("train_") else name)


def named(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row by our names; of two that mean the same, the first counts.

    The Trainer's last row has the mean over the run as `train_loss`: it comes with `train_runtime`, and is no step.
    """
    if "train_runtime" in row or "train/train_runtime" in row:
        return {}
    made: dict[str, Any] = {}
    for name, value in row.items():
        if value is not None and (ours := canonical(name)):
            made.setdefault(ours, value)
    return made


def in_bytes(value: float) -> float:
    """Memory in bytes: what is below 16 Ki is a number of GiB."""
    return value * GIB if 0 < value < 16384 else value
