"""`grpo` and `distill`: rewards that would fail at the first step, groups, room for answers, teachers; nothing is imported."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ftdsl.diagnostics import Diagnostic
from ftdsl.language.values import StageRef, Term
from tests.conftest import Outcome

ROWS = '{"instruction": "2+2=", "input": "", "output": "4", "tests": ["assert f(1) == 2"], "level": 1}\n' * 4
PAIRS = '{"instruction": "q", "input": "", "chosen": "a", "rejected": "b"}\n' * 4
OWN = """
raise RuntimeError("this file must not be imported")
import math as maths
from helpers import imported
LIMIT = 3
assigned = lambda completions: [1.0 for _ in completions]

def score(completions, **columns): return [0.0 for _ in completions]
def leveled(completions, level, *, scale=1): return [0.0 for _ in completions]
def needs(completions, target, *, prompts): return []
def positional(completions, /): return []
async def later(completions): return []
"""
FILES = {"rows.jsonl": ROWS, "pairs.jsonl": PAIRS, "own.py": OWN, "broken.py": "def f(:\n", "notes.txt": ""}
LONG_PROMPTS = ROWS.replace("2+2=", "what is two and two")
HEAD = 'hardware { gpu = none, count = 1 }\nengine = trl\nmodel = hf("Qwen/Qwen3-0.6B")\ntemplate = qwen3\n'


def grpo(rewards: str = "[length(20)]", more: str = "", before: str = "", data: str = 'file("rows.jsonl")') -> str:
    stage = f"grpo {{\n  data = {data}\n  duration = 10 steps\n  rewards = {rewards}\n  lora {{}}\n  {more}\n}}\n"
    return f"{HEAD}{before}{stage}"


def own(outcome: Outcome) -> list[Diagnostic]:
    return [found for found in outcome.found if found.severity.value != "info"]


REWARDS = [
    ('[exact("output")]', "", ""),
    ('[exact("answer", take = number)]', "", ""),
    ("[exact]", "", ""),
    ('[exact("level", take = tag(answer))]', "", ""),
    ('[exact("outputs")]', "FT624", "outputs"),
    ("[code]", "", ""),
    ('[code("test", timeout = 2s, memory = 256MB)]', "FT624", "test"),
    ("[regex('^\\d+$')]", "", ""),
    ('[regex("^[0-9")]', "FT624", "^[0-9"),
    ("[format([think, answer])]", "", ""),
    ("[length(20, min = 4)]", "", ""),
    ("[length(4, min = 20)]", "FT624", ""),
    ("[length]", "FT010", ""),
    ('[python("own.py:score", weight = -0.5), length(20, weight = 2)]', "", ""),
    ('[python("own.py:leveled")]', "", ""),
    ('[python("own.py:later")]', "", ""),
    ('[python("own.py:assigned")]', "", ""),
    ('[python("own.py:imported")]', "", ""),
    ('[python("own.py:maths")]', "", ""),
    ('[python("own.py:scores")]', "FT624", "scores"),
    ('[python("own.py:needs")]', "FT624", "own.py:needs"),
    ('[python("own.py:positional")]', "FT624", "own.py:positional"),
    ('[python("onw.py:score")]', "FT501", "onw.py"),
    ('[python("broken.py:f")]', "FT624", "broken.py"),
    ('[python("own:score")]', "FT624", "own:score"),
    ('[python("own.py")]', "FT624", "own.py"),
    ('[python("own.py:not a name")]', "FT624", "own.py:not a name"),
    ("[]", "FT011", ""),
    ("[exakt]", "FT002", "exakt"),
    ('[judge(hf("org/reward"))]', "", ""),
]


@pytest.mark.parametrize(("rewards", "code", "marked"), REWARDS, ids=[rewards for rewards, _, _ in REWARDS])
def test_rewards(rewards: str, code: str, marked: str, checked: Callable[..., Outcome]) -> None:
    found = own(checked(grpo(rewards), FILES))
    assert [one.code for one in found] == ([code] if code else []), [one.message for one in found]
    if marked:
        assert found[0].span is not None
        assert found[0].span.text == marked


def test_same_text_in_two_rewards_is_told_apart(checked: Callable[..., Outcome]) -> None:
    text = grpo('[python("own.py:score"), python("own.py:scor")]')
    (found,) = own(checked(text, FILES))
    assert found.span is not None
    assert (found.span.text, found.span.start) == ("scor", text.index('scor")'))
    assert "`score`" in found.label


def test_no_rewards(checked: Callable[..., Outcome]) -> None:
    (found,) = own(checked(grpo().replace("rewards = [length(20)]", ""), FILES))
    assert (found.code, found.message) == ("FT011", "`grpo` has no `rewards`")


JUDGE = 'reward judge { data = file("pairs.jsonl"), duration = 1 epoch, lora {} }\n'


def test_a_judge_is_waited_for(checked: Callable[..., Outcome]) -> None:
    outcome = checked(grpo("[judge(judge, weight = 2)]", before=JUDGE), FILES)
    assert own(outcome) == []
    recipe = outcome.checked.recipe
    assert recipe is not None
    stage = recipe.stage("grpo")
    assert stage.needs == ("judge",)
    assert stage.settings.items("rewards") == [Term("judge", {"model": StageRef("judge"), "weight": 2})]
    assert stage.start == recipe.stage("judge").start


WRONG = [
    ("[judge(sft)]", "", "`sft` is not a `reward` stage"),
    ("[length(20)]", "from judge", "is a reward model"),
    ("[judge(rows)]", "", "`rows` is not a `reward` stage"),
]


@pytest.mark.parametrize(("rewards", "start", "message"), WRONG)
def test_hand_offs(rewards: str, start: str, message: str, checked: Callable[..., Outcome]) -> None:
    stages = 'data rows { source = file("rows.jsonl") }\nsft { data = rows, duration = 1 epoch, lora {} }\n' + JUDGE
    text = grpo(rewards, before=stages).replace("grpo {", f"grpo {start} {{")
    if start:
        text = text.replace('model = hf("Qwen/Qwen3-0.6B")\n', "").replace(
            " { data", ' { model = hf("Qwen/Qwen3-0.6B"), data'
        )
    found = own(checked(text, FILES))
    assert [one.code for one in found] == ["FT622"], [one.message for one in found]
    assert message in found[0].message


BATCHES = [
    ("", 8, ""),
    ("generations = 3", 3, ""),
    ("batch { global = 16 }", 16, ""),
    ("batch { global = 12 }", 0, "write `global = 8 or 16`"),
    ("batch { global = 4 }", 0, "write `global = 8`"),
    ("batch { micro = 4, accumulate = 4 }", 16, ""),
    ("batch { micro = 4, accumulate = 3 }", 0, "write `accumulate = 2 or 4`"),
    ("batch { micro = 6 }", 0, "write `global = 24`"),
    ("hardware { count = 4 }", 8, ""),
    ("generations = 6, hardware { count = 4 }", 12, ""),
    ("generations = 6, hardware { gpu = h100(80GB), count = 4 }", 24, ""),
    ("hardware { gpu = h100(80GB), count = 8 }", 16, ""),
]


@pytest.mark.parametrize(("more", "total", "help"), BATCHES, ids=[more for more, _, _ in BATCHES])
def test_a_step_holds_whole_groups(more: str, total: int, help: str, checked: Callable[..., Outcome]) -> None:
    outcome = checked(grpo(more=more), FILES)
    found = [one for one in own(outcome) if one.severity.value == "error"]
    assert [one.code for one in found] == (["FT401"] if help else []), [one.message for one in found]
    if help:
        assert found[0].help == help
    else:
        assert outcome.checked.plan is not None
        assert outcome.checked.plan.stage("grpo").batch.total == total


ROOM = [
    ("max_len = 64, generate { max_new_tokens = 32 }", ""),
    ("max_len = 64, generate { max_new_tokens = 64 }", "error"),
    ("max_len = 64", "error"),
    ("generate { max_new_tokens = 16 }", ""),
    ("max_len = 33, generate { max_new_tokens = 32 }", "warning"),
]


@pytest.mark.parametrize(("more", "severity"), ROOM, ids=[more for more, _ in ROOM])
def test_a_prompt_and_its_answer_fit_into_the_window(more: str, severity: str, checked: Callable[..., Outcome]) -> None:
    files = {**FILES, "rows.jsonl": LONG_PROMPTS}
    found = own(checked(grpo('[exact("output")]', more), files))
    assert [(one.code, one.severity.value) for one in found] == ([("FT625", severity)] if severity else [])


def distill(more: str) -> str:
    stages = 'data rows { source = file("rows.jsonl") }\nsft expert { data = rows, duration = 1 epoch, full {} }\n'
    stage = f"distill {{ data = rows, duration = 10 steps, lora {{}}, generate {{ max_new_tokens = 16 }}\n {more} }}"
    return HEAD + stages + stage


TEACHERS = [
    ("", [], 0.0),
    ('teacher = hf("Qwen/Qwen3-4B")', [], 1.0),
    ('teacher = hf("Qwen/Qwen3-4B"), on_policy = 0%', [], 0.0),
    ('teacher = hf("Qwen/Qwen3-4B"), on_policy = 25%, divergence = 0.5', [], 0.25),
    ("teacher = expert", [], 1.0),
    ("teacher = rows", ["FT622"], 1.0),
    ("on_policy = 50%", ["FT626"], 0.5),
    ("divergence = 0", ["FT626"], 0.0),
    ("divergence = 2", ["FT003"], 0.0),
]


@pytest.mark.parametrize(("more", "codes", "share"), TEACHERS, ids=[more for more, _, _ in TEACHERS])
def test_a_teacher(more: str, codes: list[str], share: float, checked: Callable[..., Outcome]) -> None:
    from ftdsl.recipe.rules.post_training import on_policy

    outcome = checked(distill(more), FILES)
    assert [one.code for one in own(outcome)] == codes, [one.message for one in own(outcome)]
    assert outcome.checked.recipe is not None
    assert on_policy(outcome.checked.recipe.stage("distill").settings) == share


def test_the_engine_is_chosen_by_itself(checked: Callable[..., Outcome]) -> None:
    outcome = checked(grpo().replace("engine = trl\n", ""), FILES)
    assert own(outcome) == []
    assert outcome.checked.recipe is not None
    assert outcome.checked.recipe.engine_of(outcome.checked.recipe.stage("grpo")) == "trl"


def test_an_engine_without_the_stage_says_so(checked: Callable[..., Outcome]) -> None:
    found = own(checked(grpo().replace("engine = trl", "engine = llamafactory"), FILES))
    assert [one.code for one in found] == ["FT012"]
