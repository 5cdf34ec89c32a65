"""Measurements of this machine's runs as rows of the estimator's benchmark format."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from io import StringIO

from ftdsl import catalog
from ftdsl.estimate.setup import Setup
from ftdsl.plan.measured import Measured, folder_of, parse_line
from ftdsl.session import Session

HEADER = (
    "id", "source", "source_ref", "split", "quality", "eval_mem", "eval_tput", "outcome", "model", "params_b", "method",
    "lora_r", "lora_targets", "quant", "base_dtype", "train_dtype", "master", "autocast", "optimizer", "opt_in_bwd",
    "kbit_prepare", "seq_len", "seq_kind", "micro_batch", "grad_accum", "grad_ckpt", "act_offload", "attn_impl",
    "loss_impl", "norm_impl", "compile", "strategy", "offload", "world", "dp", "tp", "pp", "cp", "vp", "gpu",
    "gpu_mem_gb", "mem_reported", "mem_unit", "mem_gib", "mem_kind", "tput_reported", "tput_unit", "tok_s_gpu", "step_s",
    "mfu", "framework", "notes",
)  # fmt: skip
"""Columns of a published measurement, in their order."""

GIB = 2.0**30


def rows(session: Session) -> Iterator[dict[str, str]]:
    """One row per measured run on a GPU of the catalogue, oldest first, by engine and version."""
    folder = folder_of(session.env)
    if folder is None or not session.files.is_dir(folder):
        return
    number = 0
    for path in session.files.glob(folder, "*.jsonl"):
        try:
            lines = session.files.text(path).splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        for line in lines:
            if (run := parse_line(line)) and run.device in catalog.gpus():
                number += 1
                yield _row(run, f"own-{number:04d}", path.stem, str(json.loads(line).get("recipe") or ""))


def as_csv(session: Session) -> str:
    """All rows, with the header."""
    text = StringIO()
    writer = csv.DictWriter(text, HEADER, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(session))
    return text.getvalue()


def _row(run: Measured, name: str, engine: str, recipe: str) -> dict[str, str]:
    setup, usual = run.setup, run.usual
    tokens = usual.tokens * usual.context * usual.accumulate * usual.data / usual.world / run.step
    cells: dict[str, object] = {
        "id": name,
        "source": "own",
        "source_ref": f"{engine}: {recipe}",
        "split": "own",
        "quality": "A",
        # memory is of the longest micro-batch, time of a typical one; a row has one length
        "eval_mem": 1,
        "eval_tput": int(usual.seq_len == setup.seq_len),
        "outcome": "oom" if run.failed else "ok",
        "seq_len": setup.seq_len,
        "seq_kind": "exact",
        "gpu": f"{run.device}-{setup.card_memory or catalog.gpus()[run.device].memory[0]:.0f}G",
        "gpu_mem_gb": f"{setup.card_memory or catalog.gpus()[run.device].memory[0]:.0f}",
        "notes": f"usual length {usual.seq_len}",
    }
    if not run.failed:
        cells |= {
            "mem_reported": f"{run.memory:.0f}", "mem_unit": "B", "mem_gib": f"{run.memory / GIB:.4f}",
            "mem_kind": "allocated_peak", "tput_reported": f"{tokens:.1f}", "tput_unit": "tok/s/gpu",
            "tok_s_gpu": f"{tokens:.1f}", "step_s": f"{run.step:.6g}",
        }  # fmt: skip
    return {key: str(value) for key, value in (cells | _settings(setup)).items()}


def _settings(setup: Setup) -> dict[str, object]:
    adapted = setup.method == "lora"
    quantised = setup.quant not in ("none", "fp8_compute")
    method = "qlora" if adapted and quantised else "lora+emb" if adapted and setup.trains_embeddings else setup.method
    return {
        "model": setup.architecture.name,
        "params_b": f"{setup.architecture.params / 1e9:.4f}",
        "method": method,
        "lora_r": setup.lora_rank or "",
        "lora_targets": ",".join(setup.lora_targets),
        "quant": setup.quant,
        "base_dtype": setup.base_dtype,
        "train_dtype": setup.train_dtype,
        "master": int(setup.master),
        "autocast": int(setup.autocast),
        "optimizer": setup.optimizer,
        "opt_in_bwd": int(setup.opt_in_backward),
        "kbit_prepare": int(setup.kbit_prepare),
        "micro_batch": setup.micro_batch,
        "grad_accum": setup.accumulate,
        "grad_ckpt": setup.checkpointing,
        "act_offload": int(setup.offload_activations),
        "attn_impl": setup.attention,
        "loss_impl": setup.loss,
        "norm_impl": setup.norms,
        "compile": int(setup.compile),
        "strategy": setup.strategy,
        "offload": setup.offload,
        "world": setup.world,
        "dp": setup.data,
        "tp": setup.tensor,
        "pp": setup.pipeline,
        "cp": setup.context,
        "vp": setup.virtual if setup.virtual > 1 else "",
        "framework": setup.framework,
    }
