"""Which stages are forks of one process, and with which variables it imports. What they give is tests/real/test_preload.py's."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftdsl.engines.jobs import Job, Raw
from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import compile_recipe
from ftdsl.run.environments import Environment
from ftdsl.run.preload import Preload, environment_of, suits
from ftdsl.session import Session
from tests.conftest import ALPACA, NOWHERE

RECIPE = """
hardware {{ gpu = {gpu}, count = {count} }}
data rows {{ source = file("rows.jsonl") }}
sft one {{ model = hf("Qwen/Qwen3-0.6B"), data = rows, duration = 1 epoch, lora {{}} }}
shell last {{ after = one, run = "true" }}
"""


def jobs(place: Path, gpu: str = "none", count: int = 1) -> dict[str, Job]:
    (place / "rows.jsonl").write_text(ALPACA * 10, encoding="utf-8")
    (place / "r.ft").write_text(RECIPE.format(gpu=gpu, count=count), encoding="utf-8")
    session = Session(env=NOWHERE)
    compiled = compile_recipe(place / "r.ft", Options(), session)
    assert compiled is not None, [diagnostic.message for diagnostic in session.sink.ordered()]
    return {job.key: job for job in compiled.jobs}


@pytest.mark.parametrize(
    ("gpu", "count", "forked"), [("none", 1, {"one"}), ("none", 2, set()), ("h100", 1, set()), ("h100", 8, set())]
)
def test_one_process_without_a_gpu(gpu: str, count: int, forked: set[str], tmp_path: Path) -> None:
    """A forked process cannot use CUDA that its parent has initialised, and ranks are started by a launcher."""
    assert {key for key, job in jobs(tmp_path, gpu, count).items() if suits(job)} == forked


def test_the_server_has_the_variables_that_the_script_sets(tmp_path: Path) -> None:
    job = jobs(tmp_path)["one"]
    assert isinstance(job.env["OMP_NUM_THREADS"], Raw)
    assert environment_of(job, {"X": "1"}) == {"X": "1", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    assert environment_of(job, {"OMP_NUM_THREADS": "3"})["OMP_NUM_THREADS"] == "3"


def test_one_stage_alone_imports_for_itself(tmp_path: Path) -> None:
    by_key = jobs(tmp_path)
    python = Path("engine/bin/python")
    environment = Environment(python, "a test")
    preload = Preload(tmp_path, dict.fromkeys(("llamafactory", ""), environment))
    preload.start(by_key.values(), {}, tmp_path / "log")
    assert not (tmp_path / "log").exists()
    assert {key: preload.python(job, {}, tmp_path, environment) for key, job in by_key.items()} == {
        key: {"FT_PYTHON": str(python)} for key in by_key
    }
    preload.close()
