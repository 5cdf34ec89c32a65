"""Small answers of the command line: `help`, files that are missing, blocks and members that are explained."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import ftc

RECIPE = (
    'sft { model = hf("Qwen/Qwen3-4B"), template = qwen3, data = hf("a/b"), duration = 3 steps, lora { rank = 8 } }\n'
)


def test_help_is_a_verb(tmp_path: Path) -> None:
    done = ftc("help", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("usage: ftc")
    assert "usage: ftc check" in ftc("help", "check", cwd=tmp_path).stdout


def test_a_missing_side_of_a_diff_is_no_difference(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("stage: sft\nmodel_name_or_path: a/b\n", encoding="utf-8")
    done = ftc("diff", "a.yaml", "nope.yaml", cwd=tmp_path)
    assert done.returncode == 2 and "nope.yaml: no such file" in done.stderr


def test_a_block_of_a_stage_names_its_keys(tmp_path: Path) -> None:
    (tmp_path / "x.ft").write_text(RECIPE, encoding="utf-8")
    done = ftc("explain", "x.ft", "sft.lora", cwd=tmp_path)
    assert done.returncode == 2 and "`lora` is a block; its keys: sft.lora.alpha, sft.lora.rank" in done.stderr


def test_members_are_listed(tmp_path: Path) -> None:
    (tmp_path / "x.ft").write_text(RECIPE, encoding="utf-8")
    assert "takes one of responses, last_response" in ftc("explain", "x.ft", "sft.train_on", cwd=tmp_path).stdout


def test_a_deprecated_strategy_is_told_in_words_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "x.ft").write_text(
        f"hardware {{ gpu = h100, count = 2 }}\nparallel {{ strategy = fsdp1 }}\n{RECIPE}", encoding="utf-8"
    )
    assert "write `strategy = fsdp2`" in ftc("check", "x.ft", cwd=tmp_path).stdout
