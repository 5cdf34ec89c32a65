"""`ftc explain FILE [STAGE]`: no line of what is compiled stands there without what decides it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftdsl.engines.lower import reasons
from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import check
from ftdsl.session import Session
from ftdsl.targets.explained import Line, files
from tests.conftest import COMPILED, ROOT, ftc
from tests.engines.layouts import layouts

HANDBOOK = ROOT / "examples" / "handbook_14b.ft"
PROFILES = ["", "accelerate", "deepspeed", "three_d"]


def lines(path: Path, *profiles: str) -> Iterator[tuple[str, Line]]:
    """Every line of every file, with the file it stands in."""
    checked = check(path, Options(profiles=profiles), Session())
    assert checked.plan is not None
    for job in checked.jobs:
        for file in files(checked.plan, job, reasons(checked.plan, job)):
            yield from ((file.path, line) for line in file.lines)


def unexplained(path: Path, *profiles: str) -> list[str]:
    found = list(lines(path, *profiles))
    assert len(found) > 10
    judged = [(name, line) for name, line in found if line.because is not None]
    return [f"{name}: {line.text}" for name, line in judged if not (line.because.key or line.because.why)]


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: path.stem)
def test_every_line_has_its_reason(path: Path) -> None:
    assert unexplained(path) == []


@pytest.mark.parametrize("profile", PROFILES[1:])
def test_every_line_of_every_launcher_has_its_reason(profile: str) -> None:
    assert unexplained(HANDBOOK, profile) == []


@pytest.mark.slow
def test_every_launch_word_there_is_has_its_reason(tmp_path: Path) -> None:
    """All strategies under all launchers, on one node and several, compiled for people who will ask."""
    (tmp_path / "rows.jsonl").write_text('{"instruction": "q", "input": "", "output": "a"}\n' * 4, encoding="utf-8")
    missing = set()
    for layout in layouts():
        (tmp_path / "r.ft").write_text(layout.text(), encoding="utf-8")
        missing |= set(unexplained(tmp_path / "r.ft"))
    assert missing == set()


SAID = [
    ("", "sft/train.yaml", "lora_alpha: 128", "lora.alpha = 2 * rank, line 19"),
    ("", "sft/train.yaml", "gradient_accumulation_steps: 8", "batch.accumulate = 8, chosen: from the batch equation"),
    ("accelerate", "sft/accelerate.yaml", "num_processes: 4", "hardware.count = 4, line 8"),
    ("accelerate", "sft/launch.sh", "--config_file 10-sft/accelerate.yaml", "launch.with = accelerate, profile accelerate"),
    ("deepspeed", "sft/ds_config.json", '"stage": 3', "parallel.strategy = zero3, line 22"),
    ("deepspeed", "sft/launch.sh", "--num_gpus 4", "hardware.count = 4, line 8"),
    ("three_d", "sft/train.yaml", "tensor_model_parallel_size: 4", "parallel.tensor = 4, profile three_d (line 41)"),
    ("three_d", "sft/train.yaml", "overlap_grad_reduce: true", "megatron.overlap_grad_reduce = true, profile three_d"),
    ("three_d", "sft/launch.sh", "--nnodes 2", "hardware.nodes = 2, profile three_d (line 34)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("profile", "asked", "line", "why"), SAID, ids=[f"{asked}-{line}" for _, asked, line, _ in SAID]
)
def test_a_line_and_why(profile: str, asked: str, line: str, why: str) -> None:
    done = ftc("explain", str(HANDBOOK), asked, *(["--profile", profile] if profile else []), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = next(text for text in done.stdout.splitlines() if text.strip().startswith(line))
    assert why in found


def test_machines_get_it_in_parts(tmp_path: Path) -> None:
    done = ftc("explain", str(HANDBOOK), "sft/ds_config.json", "--json", cwd=ROOT)
    (stage,) = json.loads(done.stdout)["stages"]
    assert stage["equations"][0] == "128 global = 4 micro x 8 accumulate x 4 data-parallel"
    (file,) = stage["files"]
    line = next(one for one in file["lines"] if one["path"] == "zero_optimization.stage")
    assert line == {"line": '"stage": 3', "path": "zero_optimization.stage", "key": "parallel.strategy", "value": "zero3",
                    "layer": "stage", "where": "handbook_14b.ft:22", "why": ""}  # fmt: skip


def test_what_is_not_there(tmp_path: Path) -> None:
    done = ftc("explain", str(HANDBOOK), "sft/zero.json", cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no stage or file `sft/zero.json`; stages: sft" in done.stderr
