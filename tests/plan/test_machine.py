"""`gpu = auto`: the cards of this machine, by the driver's names, kept in the lock."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdsl.plan.machine import Gpus, gpu_of, local_gpus
from ftdsl.session import Files, Session
from tests.conftest import Outcome, ftc

RECIPE = """\
hardware { gpu = auto }
sft {
  model    = hf("Qwen/Qwen3-8B")
  data     = file("rows.jsonl")
  duration = 100 steps
  batch    { global = 16 }
}
"""


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("NVIDIA H100 80GB HBM3", ("h100", 80)),
        ("NVIDIA H100 PCIe", ("h100pcie", 80)),
        ("NVIDIA A100-SXM4-40GB", ("a100", 40)),
        ("NVIDIA GeForce RTX 4090", ("rtx4090", 24)),
        ("NVIDIA RTX 6000 Ada Generation", ("rtx6000ada", 48)),
        ("Tesla V100-SXM2-32GB", ("v100", 32)),
        ("NVIDIA L40S", ("l40s", 48)),
        ("Matrox Millennium", None),
    ],
)
def test_what_drivers_call_cards(model: str, known: tuple[str, int] | None) -> None:
    assert gpu_of(model) == known


class Driver(Files):
    """A machine with two cards of one kind and one of another."""

    MODELS = ("NVIDIA A100-SXM4-80GB", "NVIDIA T400 4GB", "NVIDIA A100-SXM4-80GB")

    def is_dir(self, path: Path) -> bool:
        return True

    def glob(self, folder: Path, pattern: str) -> list[Path]:
        return [folder / str(at) / "information" for at in range(len(self.MODELS))]

    def text(self, path: Path) -> str:
        return f"Model: \t\t {self.MODELS[int(path.parent.name)]}\nIRQ:   \t\t 42\n"


def test_the_commonest_card_counts() -> None:
    assert local_gpus(Session(Driver(), env={})) == Gpus("a100", 2, 80)


def test_what_was_found_is_in_the_lock_and_frozen(tmp_path: Path) -> None:
    (tmp_path / "recipe.ft").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text('{"instruction": "q", "output": "a"}\n' * 4, encoding="utf-8")
    made = ftc("compile", "recipe.ft", cwd=tmp_path, FTC_GPU="2 x a100(80GB)")
    assert made.returncode == 0, made.stderr
    assert json.loads((tmp_path / "recipe.lock").read_text())["env"]["FTC_GPU"] == "2 x a100(80GB)"
    launch = next(tmp_path.glob("build/recipe/*-sft/launch.sh")).read_text()
    assert "--nproc_per_node 2" in launch
    assert ftc("compile", "recipe.ft", "--frozen", cwd=tmp_path).returncode == 0, (
        "as the lock says, on a machine without cards"
    )
    assert next(tmp_path.glob("build/recipe/*-sft/launch.sh")).read_text() == launch


def test_a_card_named_without_its_size_is_the_smallest(checked: Callable[..., Outcome]) -> None:
    rows = {"rows.jsonl": '{"instruction": "q", "output": "a"}\n'}
    (found,) = checked(RECIPE.replace("gpu = auto", "gpu = a100"), rows).found
    assert "hardware.gpu = a100(40GB) (the smallest size; otherwise write `a100(80GB)`)" in found.notes
