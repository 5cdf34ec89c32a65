"""The reference of the language is whole and true: every key explained, every example taken by the checker as it is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ftdsl.engines import reference, reference_page
from tests.conftest import Outcome, ftc

BLOCKS = {block.name: block for block in reference.blocks()}
ABOUT_THE_VALUE = ("FT001", "FT002", "FT003", "FT005", "FT006", "FT010", "FT015", "FT016", "FT03", "FT060", "FT061",
                   "FT062")  # fmt: skip
"""Codes that say: this is not how it is written."""

KINDS = {"train": "sft", "stage_quantize": "quantize", "columns": "data", "roles": "data", "holdout": "data", "gate": "eval",
         "budget": "", "file": "", "search": "", "template": ""}  # fmt: skip


def recipe_of(block: str, example: str) -> str:
    """A recipe with one example in it; what it names stands beside it."""
    context = """
        reward judge { model = hf("a/b"), data = file("rows.jsonl"), lora { } }
        sft first { model = hf("a/b"), data = file("rows.jsonl"), lora { } }
        sft other { model = hf("a/b"), data = file("rows.jsonl"), lora { } }
        eval exam from first { data = file("rows.jsonl") }
    """
    text = example.replace("= sft ", "= first ").replace("(sft", "(first").replace("[sft]", "[first]")
    if block == "template":
        return f"{context}\ntemplate house {{ {text.removeprefix('template { ').removesuffix(' }')} }}"
    kind = KINDS.get(block)
    if kind == "" or block in reference.GROUPS:
        return f"{context}\n{text}"
    stage = kind or next(
        name for name in ("sft", "eval", "dpo", "ppo") if name in BLOCKS[block].where or not BLOCKS[block].where
    )
    return f"{context}\n{stage} tried {{ {text} }}"


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.slow
def test_every_example_is_written_as_the_checker_takes_it(name: str, checked: Callable[..., Outcome]) -> None:
    wrong = []
    for key in BLOCKS[name].keys:
        found = checked(
            recipe_of(name, key.example), {"rows.jsonl": "", "report.py": "", "data/rows.jsonl": ""}, HF_TOKEN="x"
        )
        wrong += [(key.example, one.code, one.message) for one in found.found if one.code.startswith(ABOUT_THE_VALUE)]
    assert wrong == []


@pytest.mark.parametrize("name", BLOCKS)
def test_every_key_is_explained(name: str) -> None:
    for key in BLOCKS[name].keys:
        assert key.about and key.takes and key.default, key.path


def test_the_page_is_current() -> None:
    assert reference_page.PAGE.read_text(encoding="utf-8") == reference_page.page(), "type: make generate"


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("lora.rank", ["lora_rank in LLaMA-Factory", "example  lora { rank = "]),
        ("sft.duration", ["num_train_epochs", "every training stage"]),
        ("lora", ["lora.alpha", "lora.dropout"]),
        ("sft", ["duration"]),
        ("rank", ["lora.rank", "oft.rank"]),
        ("parallel.strategy", ["zero3", "fsdp2"]),
    ],
)
def test_explain_without_a_recipe(asked: str, shown: list[str], tmp_path: object) -> None:
    done = ftc("explain", asked, cwd=tmp_path)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    assert all(text in done.stdout for text in shown), done.stdout


def test_a_name_that_is_none_is_met_with_the_nearest(tmp_path: object) -> None:
    done = ftc("explain", "lora.rnk", cwd=tmp_path)  # type: ignore[arg-type]
    assert done.returncode == 2 and "did you mean `lora.rank`" in done.stderr
