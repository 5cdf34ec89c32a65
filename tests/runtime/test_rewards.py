"""What an answer is worth: each built-in check, and functions of the author's. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftdsl.runtime import rewards
from ftdsl.runtime.report import StageError


def scores(spec: dict[str, Any], completions: list[Any], folder: Path = Path(), **columns: Any) -> list[float | None]:
    reward = rewards.made([{"name": "it", **spec}], folder)[0]
    assert reward is not None
    assert reward.__name__ == "it"
    ids = [list(range(len(rewards.text_of(completion)))) for completion in completions]
    return reward(prompts=[""] * len(completions), completions=completions, completion_ids=ids, **columns)


@pytest.mark.parametrize(
    ("take", "completion", "answer", "equal"),
    [
        (None, " 42 ", "42", True),
        (None, "the answer is 42", "42", False),
        (None, "1,000", "1000.0", True),
        (None, "$5", "5", True),
        (None, "Paris", "paris", False),
        (None, "", "", False),
        ({"kind": "number"}, "2 and 3 make 5.", 5, True),
        ({"kind": "number"}, "it is -7", "-7", True),
        ({"kind": "number"}, "nothing here", "0", False),
        ({"kind": "boxed"}, r"so \boxed{\frac{1}{2}} is it", r"\frac{1}{2}", True),
        ({"kind": "boxed"}, r"\boxed{1} or \boxed{2}", "2", True),
        ({"kind": "boxed"}, r"\boxed{1", "1", False),
        ({"kind": "last_line"}, "because\n\nblue\n", "blue", True),
        ({"kind": "tag", "name": "answer"}, "<think>1</think><answer> 2 </answer>", "2", True),
        ({"kind": "tag", "name": "answer"}, "<answer>2", "2", False),
        ({"kind": "after", "mark": "####"}, "steps\n#### 18", "18", True),
        ({"kind": "after", "mark": "####"}, "18", "18", False),
        (None, [{"role": "assistant", "content": "42"}], 42, True),
    ],
)
def test_exact(take: dict[str, Any] | None, completion: Any, answer: Any, equal: bool) -> None:
    spec = {"kind": "exact", "answer": "answer", "take": take}
    assert scores(spec, [completion], answer=[answer]) == [float(equal)]


def test_column_that_the_data_lacks() -> None:
    with pytest.raises(StageError, match="`exact` reads the column `answer`"):
        scores({"kind": "exact", "answer": "answer"}, ["1"])


def test_regex() -> None:
    assert scores({"kind": "regex", "pattern": r"^\d+$"}, ["12", "12a", "a\n12"]) == [1, 0, 0]


@pytest.mark.parametrize(
    ("completion", "fits"),
    [
        ("<think>a</think><answer>b</answer>", True),
        (" <think>a\nb</think>\n\n<answer></answer>\n", True),
        ("<answer>b</answer><think>a</think>", False),
        ("so: <think>a</think><answer>b</answer>", False),
        ("<think>a</think><answer>b</answer> done", False),
        ("<think>a</think>", False),
        ("<think>a</think><answer>b</answer><answer>c</answer>", False),
        ("<think><think>a</think></think><answer>b</answer>", False),
    ],
)
def test_format(completion: str, fits: bool) -> None:
    assert scores({"kind": "format", "tags": ["think", "answer"]}, [completion]) == [float(fits)]


def test_length_falls_off_at_both_ends() -> None:
    texts = ["", "a", "ab", "abcd", "abcde", "abcdef", "abcdefgh", "abcdefghij"]
    assert scores({"kind": "length", "max": 4, "min": 2}, texts) == [0, 0.5, 1, 1, 0.75, 0.5, 0, 0]


@pytest.mark.slow
def test_code_is_run() -> None:
    answers = [
        "def f(x): return x * 2",
        "so:\n```python\ndef f(x): return x + 2\n```\nthat is it",
        "no idea",
        "while True: pass",
    ]
    spec = {"kind": "code", "tests": "tests", "timeout": 1.0}
    tests = ["assert f(2) == 4", "assert f(3) == 6"]
    assert scores(spec, answers, tests=[tests] * 4) == [1, 0.5, 0, 0]
    assert scores(spec, answers[:1], tests=["assert f(2) == 4; assert f(3) == 7"]) == [0]


OWN = """
from helper import FACTOR

def all_of(prompts, completions, completion_ids, **columns):
    return [FACTOR * len(completion) for completion in completions]

def some(completions, answer):
    return [None if wanted is None else completion == wanted for completion, wanted in zip(completions, answer)]

def short(completions): return [1.0]
def wrong(completions): return [float("nan")] * len(completions)
def raises(completions): return [1 / 0]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "helper.py").write_text("FACTOR = 2")
    return tmp_path


@pytest.mark.parametrize(("name", "values"), [("all_of", [2, 4]), ("some", [1, None])])
def test_own_functions_get_what_they_take(folder: Path, name: str, values: list[float | None]) -> None:
    spec = {"kind": "python", "function": f"own.py:{name}"}
    assert scores(spec, ["a", "bb"], folder, answer=["a", None], other=[1, 2]) == values


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("short", "own.py:short returned 1 values for 2 answers"),
        ("wrong", "own.py:wrong returned nan"),
        ("raises", "own.py:raises failed: ZeroDivisionError"),
        ("missing", "own.py:missing cannot be loaded: AttributeError"),
    ],
)
def test_own_functions_that_fail(folder: Path, name: str, message: str) -> None:
    with pytest.raises(StageError, match=message):
        scores({"kind": "python", "function": f"own.py:{name}"}, ["a", "bb"], folder)


def test_a_judge_is_left_to_the_engine() -> None:
    assert rewards.made([{"kind": "judge", "name": "judge", "model": "x"}], Path()) == [None]
