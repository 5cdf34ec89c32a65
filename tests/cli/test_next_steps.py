"""The command offered next does what the author means: with the options of the recipe's variant, and the flags it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROWS, ftc, small

RECIPE = small("lora { rank = 8 }", "param n: int = 1") + "profile p { sft { seed = 3 } }\n"
VARIANT = ("--profile", "p", "--set", "sft.seed=4", "-p", "n=2")


def written(folder: Path, recipe: str) -> Path:
    for name, text in {"recipe.ft": recipe, **ROWS}.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("verb", ["check", "plan", "compile"])
def test_the_next_command_keeps_the_variant(verb: str, tmp_path: Path) -> None:
    done = ftc(verb, "recipe.ft", *VARIANT, cwd=written(tmp_path, RECIPE))
    assert done.stderr.rstrip().endswith("ftc run recipe.ft --profile p --set sft.seed=4 -p n=2"), done.stderr
    plain = ftc(verb, "recipe.ft", cwd=tmp_path)
    assert plain.stderr.rstrip().endswith("ftc run recipe.ft"), plain.stderr


GUESS = "lora { rnak = 8 }"


@pytest.mark.parametrize(
    ("flags", "offered"),
    [
        ((), "next: ftc check --fix --unsafe-fixes recipe.ft (with --diff: only shows it)"),
        (("--fix",), "next: ftc check --fix --unsafe-fixes recipe.ft (with --diff: only shows it)"),
        (("--fix", "--unsafe-fixes"), "next: ftc run recipe.ft"),
        (("-q",), ""),
    ],
)
def test_a_guess_is_offered_with_the_flags_that_apply_it(flags: tuple[str, ...], offered: str, tmp_path: Path) -> None:
    done = ftc("check", *flags, "recipe.ft", cwd=written(tmp_path, small(GUESS)))
    assert (done.stderr.splitlines() or [""])[-1] == offered


def test_nothing_is_offered_where_nothing_can_be_fixed(tmp_path: Path) -> None:
    done = ftc("check", "recipe.ft", cwd=written(tmp_path, small('lora { rank = "x" }')))
    assert done.returncode == 1
    assert "next:" not in done.stderr
