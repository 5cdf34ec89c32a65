"""What people call GPUs, templates and keys; shares that cannot be; names and values that are none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ftc

ROWS = '{"instruction": "a", "output": "b"}\n' * 40


def checked(folder: Path, text: str) -> str:
    (folder / "r.jsonl").write_text(ROWS, encoding="utf-8")
    (folder / "x.ft").write_text(text, encoding="utf-8")
    done = ftc("check", "x.ft", cwd=folder)
    assert "bug in ftc" not in done.stderr, done.stderr
    return done.stdout


def stage(inside: str = "", template: str = "qwen3", data: str = 'file("r.jsonl")', before: str = "") -> str:
    return (
        f'{before}\nsft {{ model = hf("Qwen/Qwen3-4B"), template = {template}, data = {data}, lora {{}}\n{inside}\n}}\n'
    )


@pytest.mark.parametrize(
    ("gpu", "guess"),
    [("A100-80G", "a100(80GB)"), ("4090", "rtx4090"), ('"H100"', "h100"), ("RTX4090", "rtx4090"), ("A800", "a800"),
     ("H100-80GB", "h100(80GB)"), ('"NVIDIA A100-SXM4-80GB"', "a100(80GB)")],
)  # fmt: skip
def test_gpus_by_other_names(tmp_path: Path, gpu: str, guess: str) -> None:
    out = checked(tmp_path, stage(before=f"hardware {{ gpu = {gpu}, count = 1 }}"))
    assert f"did you mean `{guess}`?" in out and out.count("error[") == 1


@pytest.mark.parametrize(
    ("template", "guess"), [("qwen25", "qwen"), ('"llama-3"', "llama3"), ("qwen2_5_vl", "qwen2_vl")]
)
def test_templates_by_other_names(tmp_path: Path, template: str, guess: str) -> None:
    assert f"did you mean `{guess}`?" in checked(tmp_path, stage(template=template))


@pytest.mark.parametrize(
    ("template", "guess", "severity"),
    [
        ("corner_pointcloud", "", "warning"),
        ("qwen3_mine", "qwen3_vl", "warning"),
        ("llama3x", "llama3", "warning"),
        ("qwne3", "qwen3", "error"),
        ("lama3", "llama3", "error"),
        ('"qwen25"', "qwen", "error"),
    ],
)
def test_a_template_of_no_release(tmp_path: Path, template: str, guess: str, severity: str) -> None:
    """A name with something added may be that of a fork; a slip ends the run when the engine starts. The same in YAML."""
    name = template.strip('"')
    (tmp_path / "x.yaml").write_text(
        f"model_name_or_path: Qwen/Qwen3-4B\nstage: sft\ndo_train: true\ndataset: identity\ntemplate: {name}\n"
        "output_dir: o\nfinetuning_type: lora\n",
        encoding="utf-8",
    )
    for out in (checked(tmp_path, stage(template=template)), ftc("check", "x.yaml", cwd=tmp_path).stdout):
        assert f"{severity}[FT002] unknown-value: " in out and out.count("[FT002]") == 1, out
        assert ("did you mean" in out) is bool(guess)
    assert "error[FT002]" in checked(tmp_path, stage(template='"two words"')), "no template has such a name"


@pytest.mark.parametrize(
    ("key", "line"),
    [("gpus", "count = 8"), ("num_gpus", "count = 8"), ("nproc_per_node", "count = 8"), ("nnodes", "nodes = 8")],
)
def test_hardware_by_other_names(tmp_path: Path, key: str, line: str) -> None:
    assert f"write `{line}`" in checked(tmp_path, stage(before=f"hardware {{ gpu = h100, {key} = 8 }}"))


def test_a_method_as_a_value(tmp_path: Path) -> None:
    assert "write `lora { }`" in checked(tmp_path, stage("finetuning_type = lora"))


@pytest.mark.parametrize("value", ["float16", "half", "bfloat16", "float32"])
def test_types_of_torch(tmp_path: Path, value: str) -> None:
    assert re.search(r"help: write `(fp16|bf16|fp32)`", checked(tmp_path, stage(f"precision = {value}")))


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ("eval = 60%, test = 50%", "together hold out 110% of the rows"),
        ("eval = 95%, test = 5%", "together hold out 100% of the rows"),
        ("eval = 30, test = 20", "together hold out 50 rows of 40"),
        ("eval = 50%, test = 25", "together hold out 45 rows of 40"),
    ],
)
def test_parts_held_out_leave_rows(tmp_path: Path, parts: str, text: str) -> None:
    before = f'data d {{ source = file("r.jsonl"), holdout {{ {parts} }} }}'
    assert text in checked(tmp_path, stage(data="d", before=before))


@pytest.mark.parametrize(
    "parts", ["eval = 5%, test = 5%", "eval = 10, test = 10", "eval = 10", "eval = 50%, test = 49%"]
)
def test_parts_that_fit(tmp_path: Path, parts: str) -> None:
    before = f'data d {{ source = file("r.jsonl"), holdout {{ {parts} }} }}'
    assert "FT069" not in checked(tmp_path, stage(data="d", before=before))


@pytest.mark.parametrize("name", ["größe", "训练", "naïve"])
def test_names_of_other_letters(tmp_path: Path, name: str) -> None:
    out = checked(tmp_path, f"let {name} = 5\n" + stage())
    assert f"`{name}` cannot be a name" in out


@pytest.mark.parametrize(
    ("text", "written"),
    [("a:b", '"a:b"'), ("C:\\models\\x", "'C:\\models\\x'"), ("http://x:80/y", '"http://x:80/y"')],
)
def test_colons_in_a_value(tmp_path: Path, text: str, written: str) -> None:
    out = checked(tmp_path, stage(before=f"env {{ X = {text} }}"))
    assert "FT066" in out and f"write `{written}`" in out


def test_a_list_without_brackets(tmp_path: Path) -> None:
    out = checked(tmp_path, stage().replace("lora {}", "lora { targets = q_proj,v_proj }"))
    assert "write `[q_proj, v_proj]` for a list" in out


def test_what_a_passthrough_block_may_not_set_is_reported_once(tmp_path: Path) -> None:
    out = checked(tmp_path, stage("llamafactory { predict_with_generate = true, load_best_model_at_end = true }"))
    assert re.findall(r"error\[(\w+)\]", out) == ["FT014", "FT014"]
