"""What goes wrong and what is said: one cause, one message, at a tight place, with help where a machine can help."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ftdsl.language.resolve.resolve import Options
from tests.conftest import ROWS, Outcome, small

# added to a stage that is fine: code, the text the span marks, what is said beside it or as help
CASES = [
    ("lora { rnak = 64 }", "FT001", "rnak", "did you mean `rank`?"),
    ("lroa { rank = 64 }", "FT001", "lroa", "lora"),
    ("optim { schedule = cosin }", "FT002", "cosin", "did you mean `cosine`?"),
    ("optim { lr: 2e-4 }", "FT034", ":", "key = value"),
    ("optim { lr 2e-4 }", "FT036", None, "="),
    ("optim { lr = }", "FT035", None, ""),
    ("optim { lr = 2e-4, lr = 3e-4 }", "FT006", "lr", ""),
    ("duration = 3", "FT006", "duration", ""),
    ("max_len = 16kb", "FT061", "kb", ""),
    ("lora { rank = 0 }", "FT003", "0", ""),
    ("lora { dropout = 150% }", "FT003", "150%", ""),
    ('lora { rank = "8" }', "FT060", '"8"', ""),
    ("save { every = 100 }", "FT062", "100", "100 steps"),
    ("track { every = 1 }", "FT062", "1", "1 steps"),
    ("full {}\n  optim { name = galore(scale = 2, rank = 0) }", "FT003", "0", ""),
    ("optim { warmup = 0.03 }", "FT062", "0.03", "3%"),
    ('evaluate { data = "rows.jsonl" }', "FT060", '"rows.jsonl"', 'file("rows.jsonl")'),
    ("optim { lr = 1e-4 + 3 steps }", "FT063", None, ""),
    ("after = sft", "FT621", "sft", ""),
    ("to = sft", "FT621", "sft", ""),
    ("evaluate { data = sft }", "FT621", "sft", ""),
    ("template = qwen33", "FT002", "qwen33", "qwen3"),
    ("optim { schedule = cosine(cycle = 2) }", "FT016", "cycle", ""),
    ("attention = eager\n  full {}\n  lora {}", "FT623", None, ""),
    ("batch { global = 10, micro = 4 }", "FT401", "10", "4 micro"),
    ("optim { lr ~ log(1e-6 .. 1e-4) }", "FT081", None, "search"),
    ("after = nowhere", "FT040", "nowhere", ""),
    ("llamafactory { lora_rnk = 3 }", "FT001", "lora_rnk", "lora_rank"),
    ("llamafactory { lora_rank = 3 }", "FT014", "lora_rank", "lora.rank"),
    ("llamafactory { stage = sft }", "FT013", "stage", ""),
    ("engine = trl, lora { lr_ratio = 16 }", "FT012", "16", ""),
    ("parallel { strategy = fsdp2 }", "FT012", "fsdp2", ""),
    ('system = "a {nowhere} b"', "FT040", None, ""),
    ('system = "never closed', "FT031", None, ""),
]


@pytest.mark.parametrize(("text", "code", "marked", "said"), CASES, ids=[case[0][:40] for case in CASES])
def test_one_cause_one_message(
    text: str, code: str, marked: str | None, said: str, checked: Callable[..., Outcome]
) -> None:
    found = checked(small(text), ROWS).only(code)
    assert found.span is not None
    if marked is not None:
        assert found.span.text == marked
    assert said in f"{found.message} {found.label} {found.help} {[label.text for label in found.labels]}"
    assert found.message[0].islower() or found.message[0] in "`0123456789LT"
    assert "invalid" not in found.message


FILES = [
    ('include "nope.ft"', "FT043"),
    ("let a = b\nlet b = a", "FT042"),
    ("param x: int", "FT045"),
    ("name = 3", "FT060"),
    ('name = "a b"', "FT046"),
    ("frobnicate { }", "FT620"),
    ("}", "FT038"),
    ('env { HF_TOKEN = env("HF_TOKEN") }', "FT047"),
    ('env { X = env("NOT_SET_ANYWHERE") }', "FT048"),
    ("engine = axolotl", "FT002"),
    ('engine = llamafactory("0.1.0")', "FT901"),
]


@pytest.mark.parametrize(("text", "code"), FILES, ids=[text[:40] for text, _ in FILES])
def test_at_file_level(text: str, code: str, checked: Callable[..., Outcome]) -> None:
    use = 'system = "{x}"' if "param" in text else ""
    assert code in checked(small(use, text), ROWS).codes


def test_all_errors_of_a_file_in_one_run(checked: Callable[..., Outcome]) -> None:
    found = checked(small("lora { rnak = 1 }\n  optim { schedule = cosin, lr: 3e-4 }\n  tempalte = qwen3"), ROWS)
    assert found.codes == ["FT001", "FT002", "FT034", "FT001"]


def test_an_unclosed_block_leaves_the_rest_readable(checked: Callable[..., Outcome]) -> None:
    text = small("lora { rank = 8") + "\nmerge from sft { dtpe = bf16 }\n"
    found = checked(text, ROWS)
    assert "FT033" in found.codes
    assert "FT001" in found.codes, "the block after it was still checked"


def test_a_cycle_of_stages_is_named(checked: Callable[..., Outcome]) -> None:
    found = checked(small("after = b") + "sft b from sft { lora {} }\n", ROWS)
    assert "FT621" in found.codes
    assert any("sft -> b -> sft" in one.message or "b -> sft -> b" in one.message for one in found.found)


def test_profiles_and_sets_are_checked_against_the_recipe(checked: Callable[..., Outcome]) -> None:
    assert checked(small(), ROWS, Options(profiles=("laptpo",))).codes == ["FT080"]
    assert checked(small(), ROWS, Options(sets=("sft.lora.rnak=3",))).codes == ["FT001"]
    assert checked(small(), ROWS, Options(params=("x=3",))).codes == ["FT044"]


PROFILES = [
    ('sft.lora.rank = "x"', "FT060", '"x"'),
    ("sft { optim { lr = fast } }", "FT060", "fast"),
    ("hardware { gpu = h1000 }", "FT002", "h1000"),
    ("max_len = -3", "FT003", "-3"),
    ("sft.duration = 3 lightyears", "FT061", "lightyears"),
    ("precision = float7", "FT002", "float7"),
    ("sft.lora.rank = bass * 2", "FT040", "bass"),
    ('sft.lora.rank in [8, "y"]', "FT060", '"y"'),
    ('sft { lora { rank in [8, 16, "z"] } }', "FT060", '"z"'),
    ('track { to = "nowhere" }', "FT002", '"nowhere"'),
    ("sft { lora { rank = 8, alpha = 2 * rank, dropout = 300% } }", "FT003", "300%"),
    ('sft { lora { rank = "x", alpha = 2 * rank } }', "FT060", '"x"'),
]


@pytest.mark.parametrize("written", ["profile p {{ {edit} }}", "profile a {{ {edit} }}\nprofile p from a {{ }}"])
@pytest.mark.parametrize(("edit", "code", "marked"), PROFILES, ids=[edit for edit, _, _ in PROFILES])
def test_values_of_a_profile_are_checked_chosen_or_not(
    checked: Callable[..., Outcome], written: str, edit: str, code: str, marked: str
) -> None:
    text = small() + written.format(edit=edit) + "\nlet base = 8\n"
    outcome = checked(text, ROWS)
    assert outcome.codes == [code]
    diagnostic = next(diagnostic for diagnostic in outcome.found if diagnostic.code == code)
    assert (
        diagnostic.message.startswith("in profile `") and diagnostic.span is not None and diagnostic.span.text == marked
    )
    chosen = checked(text, ROWS, Options(profiles=("p",)))
    assert code in chosen.codes and not any("in profile" in diagnostic.message for diagnostic in chosen.found)


@pytest.mark.parametrize(
    "edit",
    ["sft.lora.rank = 2 * base, sft.lora.alpha = 2 * rank", 'sft.system = env("NOT_SET_HERE")',
     "hardware { gpu = h100, count = 8 }", "sft { optim { lr in [1e-4, 1e-5] } }", "sft.lora = null",
     'sft.data = file("elsewhere.jsonl")', "sft.batch.global = who"],
)  # fmt: skip
def test_a_profile_for_another_machine_is_no_error(checked: Callable[..., Outcome], edit: str) -> None:
    """What only this machine has not; and nothing of it is kept for the lock."""
    text = small() + f"profile p {{ {edit} }}\nlet base = 8\nparam who: int = 16\n"
    outcome = checked(text, ROWS)
    assert outcome.codes == []
    assert outcome.checked.resolved is not None and outcome.checked.resolved.env == {}


@pytest.mark.parametrize(
    ("edit", "code"),
    [("sft.duration = 3 lightyears", "FT061"), ("hardware { gpu = h1000, count = 1 }", "FT002"),
     ("sft { lora { rank = x } }", "FT060"), ("sft { lora { rank = 8, alpha = 2 * rank } }", ""),
     ("sft.duration = 3 steps, max_len = 2Ki", ""), ("mine.duration = 3 steps", "")],
)  # fmt: skip
def test_values_of_a_file_of_profiles_are_checked(checked: Callable[..., Outcome], edit: str, code: str) -> None:
    outcome = checked(f"profile p {{ {edit} }}\n")
    assert outcome.codes == [code] * bool(code)


def test_a_number_that_is_made_of_a_wrong_one_is_no_second_error(checked: Callable[..., Outcome]) -> None:
    assert checked(small('lora { rank = "x", alpha = 2 * rank }'), ROWS).codes == ["FT060"]
    assert checked(small("lora { rank = 8, alpha = 2 * rnak }"), ROWS).codes == ["FT040"]


def test_set_wins_over_everything(checked: Callable[..., Outcome]) -> None:
    text = small("lora { rank = 8 }") + "profile p { sft.lora.rank = 16 }\n"
    for options, rank in ((Options(), 8), (Options(("p",)), 16), (Options(("p",), ("sft.lora.rank=32",)), 32)):
        plan = checked(text, ROWS, options).checked.plan
        assert plan is not None
        assert plan.stage("sft").stage.settings.get("lora.rank") == rank


def test_axes_expand_into_runs(checked: Callable[..., Outcome]) -> None:
    text = small("lora { rank in [8, 16] }\n  optim { lr in [1e-5, 1e-4, 3e-4] }") + "merge from sft { }\n"
    plan = checked(text, ROWS).checked.plan
    assert plan is not None
    assert len([stage for stage in plan.stages if stage.stage.kind == "sft"]) == 6
    assert len([stage for stage in plan.stages if stage.stage.kind == "merge"]) == 6, "what follows is swept too"
    assert len({stage.folder for stage in plan.stages}) == 12


def test_a_shared_destination_is_refused(checked: Callable[..., Outcome]) -> None:
    assert "FT082" in checked(small('seed in [1, 2]\n  to = "saves/x"'), ROWS).codes
    assert checked(small('seed in [1, 2]\n  to = "saves/{run}"'), ROWS).codes == []


def test_a_stray_brace_loses_nothing(checked: Callable[..., Outcome]) -> None:
    found = checked(small("lora { rnak = 8 }") + "}\nmerge from sft { dtpe = bf16 }\n", ROWS)
    assert found.codes == ["FT001", "FT038", "FT001"]
