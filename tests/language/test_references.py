"""What a name refers to is held against what is there: parts of stages, scores, rows, profiles, files."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ftdsl.language.resolve.parameters import name_of
from ftdsl.language.resolve.resolve import Options
from tests.conftest import ALPACA, ROWS, Outcome, ftc, small

PARTS = [
    ("merge from sft.best { }", "sft.best"),
    ("merge from sft.last { }", "sft.last"),
    ('sft other from sft.foo { data = file("rows.jsonl") }', "sft.foo"),
    ("merge m { model = sft.foo }", "sft.foo"),
    ('merge m { model = adapter(sft.best, base = hf("a/b")) }', "sft.best"),
    ('shell s { run = "ls {sft.foo}" }', "{sft.foo}"),
    ('shell s { run = "true", after = sft.path }', "sft.path"),
    ('merge m from sft { to = "out/{sft.weights}" }', "{sft.weights}"),
]


@pytest.mark.parametrize(("text", "marked"), PARTS, ids=[text for text, _ in PARTS])
def test_a_stage_has_only_what_it_gives(text: str, marked: str, checked: Callable[..., Outcome]) -> None:
    found = checked(small("lora {}") + text, ROWS).only("FT040")
    assert found.span is not None
    assert found.span.text == marked


SCORES = [
    ("eval_los", ["FT068"], "eval_loss"),
    ("eval_loss", [], ""),
    ("loss", [], ""),
    ("eval_accuracy", ["FT068"], "metrics = [loss, accuracy]"),
    ("highest(eval_rouge_l)", ["FT068"], "metrics = [loss, rouge]"),
    ("lowest(perplexity)", ["FT068"], "eval_loss"),
]


@pytest.mark.parametrize(("score", "codes", "help"), SCORES, ids=[score for score, _, _ in SCORES])
def test_the_best_is_picked_by_what_is_measured(
    score: str, codes: list[str], help: str, checked: Callable[..., Outcome]
) -> None:
    stage = f"evaluate {{ data = 25%, every = 1 epoch }}\n  save {{ every = 1 epoch, best_by = {score} }}"
    outcome = checked(small(stage), ROWS)
    assert outcome.codes == codes
    assert help in "".join(f"{one.label} {one.help}" for one in outcome.found if one.code == "FT068")


@pytest.mark.parametrize(("count", "codes"), [(3, []), (4, ["FT069"]), (5000, ["FT069"])])
def test_no_more_is_held_out_than_there_is(count: int, codes: list[str], checked: Callable[..., Outcome]) -> None:
    assert checked(small(f"evaluate {{ data = {count} }}"), ROWS).codes == codes
    data = f'data d {{ source = file("rows.jsonl"), holdout {{ eval = {count} }} }}\n'
    assert checked(small("", data).replace('file("rows.jsonl")\n  duration', "d\n  duration"), ROWS).codes == codes


PROFILES = "profile laptop {\n  hardware { gpu = none, count = 1 }\n  sft.duration = 3 steps\n  dpo { optim { lr = 1e-6 } }\n}\n"


def test_a_file_of_profiles_is_checked_as_one(checked: Callable[..., Outcome]) -> None:
    assert checked(PROFILES).codes == []
    assert checked(PROFILES.replace("duration", "duratoin")).only("FT001").span.text == "duratoin"  # type: ignore[union-attr]
    assert checked("profile p { writer.optim.lr = 1e-4 }").codes == []
    assert checked("profile p { writer.optim.lrr = 1e-4 }").codes == ["FT001"]


@pytest.mark.parametrize(("include", "name"), [("", "laptop"), (" as site", "laptop"), (" as site", "site.laptop")])
def test_profiles_of_an_include(include: str, name: str, checked: Callable[..., Outcome]) -> None:
    text = f'include "site.ft"{include}\n{small()}'
    outcome = checked(text, {**ROWS, "site.ft": PROFILES}, Options(profiles=(name,)))
    assert outcome.codes == []
    recipe = outcome.checked.recipe
    assert recipe is not None
    assert recipe.stages[0].settings.get("duration").unit == "steps"


def test_a_misspelt_stage_in_a_recipes_own_profile_is_an_error(checked: Callable[..., Outcome]) -> None:
    assert checked(small() + "profile p { stf.duration = 1 epoch }", ROWS).codes == ["FT001"]


@pytest.mark.parametrize(
    "text",
    [
        'track { name = "" }',
        'evaluate { data = file("") }',
        'to = ""',
        'tokenizer { add = [""] }',
        'data d { split = "" }',
    ],
)
def test_an_empty_text_is_not_dropped(text: str, checked: Callable[..., Outcome]) -> None:
    stage, file = ("", text.replace("{", '{ source = file("rows.jsonl"), ')) if text.startswith("data") else (text, "")
    assert checked(small(stage, file), ROWS).only("FT003").message.endswith("is an empty text")


@pytest.mark.parametrize("text", ['system = ""', 'env { X = "" }'])
def test_an_empty_text_that_means_something(text: str, checked: Callable[..., Outcome]) -> None:
    assert checked(small(text), ROWS).codes == []


def test_names_of_files_stay_apart() -> None:
    stems = ["训练", "评估", "recipe", "my recipe", "my-recipe", "my_recipe", "é", "_x", "x", "-x"]
    names = [name_of(stem) for stem in stems]
    assert len(set(names)) == len(stems)
    assert name_of("qwen3-14b.v2") == "qwen3-14b.v2"
    assert all(name.isascii() and name[0].isalnum() for name in names)


def test_a_guess_is_no_second_method(checked: Callable[..., Outcome]) -> None:
    assert checked(small("lora {}\n  adapters = [x]"), ROWS).codes == ["FT001"]
    assert checked(small("adapters = [x]\n  full {}"), ROWS).codes == ["FT001"]
    assert checked(small("lroa { rank = 8 }"), ROWS).codes == ["FT001"]


def test_a_link_to_no_recipe_is_not_shown(tmp_path: object, checked: Callable[..., Outcome]) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    (folder / "private.txt").write_text("top secret", encoding="utf-8")
    (folder / "link.ft").symlink_to(folder / "private.txt")
    for text in ('include "private.txt"', 'include "link.ft"'):
        found = checked(text).only("FT043")
        assert "top secret" not in str(found.message)
    assert "top secret" not in ftc("check", "link.ft", cwd=folder).stdout


def test_a_large_include_is_not_read(tmp_path: object, checked: Callable[..., Outcome]) -> None:
    from pathlib import Path

    with (Path(str(tmp_path)) / "big.ft").open("wb") as handle:
        handle.truncate(1 << 30)
    assert "larger" in checked('include "big.ft"').only("FT043").message


LOOPS = [
    'include "loop.ft"',
    'data d { source = file("loop.ft") }',
    'merge m { model = file("loop.ft"), template = qwen3 }',
]


@pytest.mark.parametrize("text", LOOPS)
def test_a_circle_of_links_is_no_crash(text: str, tmp_path: object, checked: Callable[..., Outcome]) -> None:
    from pathlib import Path

    (Path(str(tmp_path)) / "loop.ft").symlink_to("loop.ft")
    assert checked(text).checked is not None
    assert ALPACA
