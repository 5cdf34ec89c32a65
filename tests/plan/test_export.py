"""Own measurements go out as rows of the format, and the benchmarks read them back as the set-ups that ran."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from benchmarks import memory as gib
from benchmarks.rows import Row
from benchmarks.scoring import score
from ftdsl.estimate.architecture import known
from ftdsl.estimate.memory import memory
from ftdsl.estimate.setup import Setup
from ftdsl.plan.export import HEADER, as_csv
from ftdsl.plan.measured import gpu_factors, setup_as_json
from ftdsl.record import replace
from ftdsl.session import Session
from tests.conftest import ftc

QLORA = Setup(known("Qwen3-8B"), method="lora", quant="nf4-dq", lora_rank=16, lora_targets=("q", "v"), micro_batch=2,
              card="rtx4090", card_memory=24, seq_len=1024, optimizer="adamw_fused", loss="flce", norms="fused")  # fmt: skip
SETUPS = {
    "qlora": QLORA,
    "lora": replace(QLORA, quant="none", micro_batch=1),
    "full": Setup(
        known("Qwen3-0.6B"),
        base_dtype="fp32",
        train_dtype="fp32",
        data=4,
        strategy="zero3",
        card="a100",
        card_memory=80,
        accumulate=3,
    ),
}


def state(folder: Path, *lines: dict[str, object]) -> Session:
    path = folder / "ftdsl" / "measured" / "llamafactory-0.9.5.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return Session(env={"XDG_STATE_HOME": str(folder)})


def line(setup: Setup, **more: object) -> dict[str, object]:
    return {"kind": "sft", "device": setup.card, "memory_bytes": memory(setup).allocated * 1.02, "step_seconds": 1.5,
            "recipe": "own", "setup": setup_as_json(setup)} | more  # fmt: skip


@pytest.mark.parametrize("name", SETUPS)
def test_a_row_is_read_back_as_the_set_up_that_ran(name: str, tmp_path: Path) -> None:
    setup = SETUPS[name]
    session = state(tmp_path, line(setup))
    (cells,) = csv.DictReader(as_csv(session).splitlines())
    assert tuple(cells) == HEADER
    row = Row(cells["id"], cells["source"], cells)
    (scored,) = score([row], "eval_mem", "mem_gib", "mem_kind", gib.estimate)
    assert scored.error == pytest.approx(0.02, abs=0.001), scored.why
    for field in ("method", "quant", "lora_rank", "strategy", "data", "accumulate", "loss", "card", "micro_batch"):
        assert getattr(row.setup, field) == getattr(setup, field), field


def test_a_run_out_of_memory_is_a_row_without_a_figure_and_corrects_the_card(tmp_path: Path) -> None:
    bound = 30 * 2.0**30
    session = state(tmp_path, line(QLORA, outcome="oom", memory_bytes=bound))
    (cells,) = csv.DictReader(as_csv(session).splitlines())
    assert cells["outcome"] == "oom" and cells["mem_gib"] == ""
    assert gpu_factors(session, "llamafactory", "0.9.5", "rtx4090").memory > 1.05


def test_the_command(tmp_path: Path) -> None:
    state(tmp_path, line(QLORA), {"not": "a line"})
    done = ftc("measurements", "--csv", "rows.csv", cwd=tmp_path, XDG_STATE_HOME=str(tmp_path))
    assert done.returncode == 0 and "1 run measured" in done.stderr
    assert (tmp_path / "rows.csv").read_text(encoding="utf-8").count("\n") == 2
    assert ftc("measurements", cwd=tmp_path, XDG_STATE_HOME=str(tmp_path / "none")).returncode == 1
