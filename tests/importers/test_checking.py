"""`ftc check` of files people have: the same rules, at the places in those files and in the files they name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftdsl.importers.checking import check
from ftdsl.importers.files import find
from ftdsl.importers.imports import import_all
from ftdsl.session import Session
from tests.conftest import ftc

FINE = """\
stage: sft
do_train: true
model_name_or_path: Qwen/Qwen3-8B
finetuning_type: lora
dataset: rows
template: qwen3
cutoff_len: 2048
output_dir: saves/x
per_device_train_batch_size: 1
learning_rate: 1.0e-4
bf16: true
report_to: none
"""
DEEPSPEED = """\
{
  "train_micro_batch_size_per_gpu": "auto",
  "bf16": {"enabled": "auto"},
  "zero_optimization": {"stage": 2}
}
"""
ACCELERATE = (
    "compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nnum_processes: 2\nfsdp_config:\n  fsdp_version: 2\n"
)


def found(place: Path, text: str, name: str = "train.yaml", **files: str) -> list[tuple[str, str]]:
    """(code, `file:line`) of every error and warning."""
    for other, content in {name: text, **{key.replace("__", "."): content for key, content in files.items()}}.items():
        (place / other).write_text(content, encoding="utf-8")
    done = ftc("check", "--json", "-q", name, cwd=place)
    data: dict[str, Any] = json.loads(done.stdout)
    assert "Traceback" not in done.stderr
    return [(one["code"], f"{one['file']}:{one['line']}") for one in data["diagnostics"]]


def test_a_file_that_is_fine_is_fine(place: Path) -> None:
    assert found(place, FINE) == []
    assert ftc("check", "train.yaml", cwd=place).returncode == 0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("lora_rnak: 8\n", [("FT001", "train.yaml:13")]),
        ("lora_rank: -1\n", [("FT003", "train.yaml:13")]),
        ("dataset: rows\n", [("FT006", "train.yaml:13")]),
        ("dataset_dir: nowhere\n", []),
        ("defaults: &d\n  a: 1\n", [("FT001", "train.yaml:13")]),
        ("\tlora_rank: 8\n", [("FT050", "train.yaml:13")]),
        ("flash_attn: fa4\n", [("FT002", "train.yaml:13")]),
        ("fp16: true\n", [("FT201", "train.yaml:13")]),
    ],
)
def test_mistakes_are_found_where_they_stand(text: str, wanted: list[tuple[str, str]], place: Path) -> None:
    assert [one for one in found(place, FINE + text) if one in wanted] == wanted


def test_the_deepspeed_file_it_names_is_checked_with_it(place: Path) -> None:
    wrong = DEEPSPEED.replace('"stage": 2', '"stage": 2').replace('"zero_optimization"', '"zero_optimisation"')
    assert ("FT009", "ds.json:4") in found(place, FINE + "deepspeed: ds.json\n", ds__json=wrong)
    both = DEEPSPEED.replace('"auto",', "4,", 1)
    assert any(code == "FT402" for code, _ in found(place, FINE + "deepspeed: ds.json\n", ds__json=both))


def test_data_sets_it_names(place: Path) -> None:
    assert ("FT501", "train.yaml:5") in found(place, FINE.replace("dataset: rows", "dataset: rowz"))


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("ds.json", DEEPSPEED.replace("zero_optimization", "zero_optimisation"), [("FT009", "ds.json:4")]),
        ("ds.json", DEEPSPEED, []),
        ("acc.yaml", ACCELERATE, []),
        ("acc.yaml", ACCELERATE + "  fsdp_use_orig_params: true\n", [("FT411", "acc.yaml:6")]),
        ("v1.yaml", "model: Qwen/Qwen3-0.6B\ntrain_dataset: x.yaml\n", [("FT051", "v1.yaml:1")]),
        ("other.yaml", "colour: red\n", [("FT051", "other.yaml:1")]),
    ],
)
def test_other_files_are_known_by_what_is_in_them(
    name: str, text: str, wanted: list[tuple[str, str]], place: Path
) -> None:
    assert found(place, text, name) == wanted


def test_a_script_is_checked_too(place: Path) -> None:
    flags = " ".join(f"--{line.replace(': ', ' ')}" for line in FINE.splitlines())
    assert found(place, f"# train\nllamafactory-cli train {flags}\n", "run.sh") == []
    wrong = f"llamafactory-cli train {flags} \\\n  --lora_rnak 8\n"
    assert found(place, wrong, "run.sh") == [("FT001", "run.sh:2")]


def test_fixes_change_the_file_and_nothing_else_in_it(place: Path) -> None:
    text = FINE.replace("bf16: true", "bf16: true # fast") + "lora_rnak: 8 # small\n"
    (place / "train.yaml").write_text(text, encoding="utf-8")
    assert ftc("check", "--fix", "--unsafe-fixes", "train.yaml", cwd=place).returncode == 0
    assert (place / "train.yaml").read_text(encoding="utf-8") == text.replace("lora_rnak", "lora_rank")


NASTY = (
    "null",
    "[]",
    "{}",
    "-1",
    "1e400",
    "''",
    "[1, [2]]",
    "{a: 1}",
    "0",
    '"1e-4"',
    "no",
    "2023-01-01",
    "1:30",
    "!!set {a}",
)


@pytest.mark.parametrize("value", NASTY)
@pytest.mark.slow
def test_no_value_breaks_the_check_or_the_import(value: str, place: Path) -> None:
    """Every line of a file with a value of another type: messages, never a traceback."""
    for line in FINE.splitlines():
        (place / "train.yaml").write_text(FINE.replace(line, f"{line.partition(':')[0]}: {value}"), encoding="utf-8")
        session = Session()
        check(place / "train.yaml", session)
        started = find([(place / "train.yaml", (place / "train.yaml").read_text(encoding="utf-8"))], Session())
        if started.starts:
            import_all(started.starts, "x", place / "x.ft", [], Session())


def test_a_file_that_is_named_and_given_is_told_of_once(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(f"{FINE}deepspeed: ds.json\n", encoding="utf-8")
    (tmp_path / "ds.json").write_text(DEEPSPEED.replace("zero_optim", "zero_optym"), encoding="utf-8")
    draft = json.loads(ftc("check", "--json", "train.yaml", "ds.json", cwd=tmp_path).stdout)["diagnostics"]
    assert [one["file"] for one in draft if one["code"] == "FT009"] == ["ds.json"]
