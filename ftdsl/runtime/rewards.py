"""Rewards of a `grpo` stage that need no model: built-in checks, and functions of the author's. Standard library only.

Each is a function as TRL calls it (trl/trainer/grpo_trainer.py): it gets `prompts`, `completions`, `completion_ids` and the
columns of the data by name, and returns a value for each completion; None leaves a completion out.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from . import sandbox
from .report import StageError

Reward = Callable[..., list[float | None]]
LACKS = "FT624"


def made(specs: Sequence[Mapping[str, Any]], folder: Path, *, smoke: bool = False) -> list[Reward | None]:
    """The reward of each spec, None for a `judge`, which is a model. folder: where the author's files are; smoke: a column that
    the data lacks, because its rows are made up, gives 0. Raises: StageError.

    spec: `{"kind": "exact" | …, "name": as in metrics, …its options}`.
    """
    rewards: list[Reward | None] = []
    for spec in specs:
        if spec["kind"] == "judge":
            rewards.append(None)
            continue
        reward = _own(spec, folder) if spec["kind"] == "python" else _KINDS[spec["kind"]](spec)
        reward = _lenient(reward) if smoke else reward
        reward.__name__ = spec["name"]
        rewards.append(reward)
    return rewards


def _lenient(reward: Reward) -> Reward:
    def zero(**given: Any) -> list[float | None]:
        try:
            return reward(**given)
        except StageError as error:
            if error.code != LACKS:
                raise
            return [0.0] * len(given["completions"])

    return zero


def text_of(completion: Any) -> str:
    """A completion as text: TRL gives messages where the prompt is a conversation."""
    if isinstance(completion, str):
        return completion
    return "".join(str(message.get("content") or "") for message in completion)


# --- exact answers

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")


def taken(text: str, how: Mapping[str, Any] | None) -> str:
    """The part of an answer that is compared; "" if it is not there."""
    kind = (how or {}).get("kind", "all")
    if kind == "number":
        numbers = _NUMBER.findall(text)
        return numbers[-1] if numbers else ""
    if kind == "boxed":
        return _boxed(text)
    if kind == "last_line":
        return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
    if kind == "tag":
        parts = re.findall(rf"<{re.escape(how['name'])}>(.*?)</{re.escape(how['name'])}>", text, re.DOTALL)  # type: ignore[index]
        return parts[-1].strip() if parts else ""
    if kind == "after":
        _, mark, rest = text.rpartition(how["mark"])  # type: ignore[index]
        return rest.strip() if mark else ""
    return text.strip()


def _boxed(text: str) -> str:
    r"""What the last `\boxed{…}` holds, with its inner braces."""
    start = text.rfind("\\boxed{")
    depth, begin = 0, start + len("\\boxed{")
    for at in range(begin, len(text)) if start >= 0 else ():
        if text[at] == "}" and depth == 0:
            return text[begin:at].strip()
        depth += {"{": 1, "}": -1}.get(text[at], 0)
    return ""


def same(left: str, right: str) -> bool:
    """Whether two answers are the same number (`1,000` and `1000.0`), or the same text but for blanks around it."""
    left, right = left.strip(), right.strip()
    numbers = [_number(left), _number(right)]
    return numbers[0] == numbers[1] if None not in numbers else left == right


def _number(text: str) -> Decimal | None:
    plain = text.rstrip(".").removeprefix("$").replace(",", "")
    try:
        number = Decimal(plain) if _NUMBER.fullmatch(plain) else None
    except InvalidOperation:
        return None
    return number


def _exact(spec: Mapping[str, Any]) -> Reward:
    column, how = spec["answer"], spec.get("take")

    def reward(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        answers = _column(columns, column, "exact")
        return [
            float(same(part, str(answer))) if (part := taken(text_of(completion), how)) else 0.0
            for completion, answer in zip(completions, answers, strict=True)
        ]

    return reward


# --- patterns, formats, lengths


def _regex(spec: Mapping[str, Any]) -> Reward:
    pattern = re.compile(spec["pattern"])

    def reward(completions: Sequence[Any], **_: Any) -> list[float | None]:
        return [float(pattern.search(text_of(completion)) is not None) for completion in completions]

    return reward


def _format(spec: Mapping[str, Any]) -> Reward:
    tags = [re.escape(tag) for tag in spec["tags"]]
    body = r"\s*".join(rf"<{tag}>(?:(?!</?{tag}>).)*</{tag}>" for tag in tags)
    pattern = re.compile(rf"\s*{body}\s*", re.DOTALL)

    def reward(completions: Sequence[Any], **_: Any) -> list[float | None]:
        return [float(pattern.fullmatch(text_of(completion)) is not None) for completion in completions]

    return reward


def within(tokens: int, least: int, most: int) -> float:
    """1 from `least` to `most` tokens; from there it falls linearly, to 0 at none and at twice the most."""
    if tokens < least:
        return tokens / least
    return 1.0 if tokens <= most else max(0.0, 2 - tokens / most)


def _length(spec: Mapping[str, Any]) -> Reward:
    def reward(completions: Sequence[Any], completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float | None]:
        return [within(len(ids), spec.get("min", 0), spec["max"]) for ids in completion_ids]

    return reward


# --- code

_FENCED = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL)


def code_of(text: str) -> str:
    """The last fenced block of an answer; all of it without one."""
    blocks = _FENCED.findall(text)
    return blocks[-1] if blocks else text


def _code(spec: Mapping[str, Any]) -> Reward:
    limits = sandbox.Limits(spec.get("timeout", sandbox.Limits.seconds), spec.get("memory", sandbox.Limits.memory))

    def reward(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        tests = _column(columns, spec["tests"], "code")
        lists = [[test] if isinstance(test, str) else list(test) for test in tests]
        work = [(code_of(text_of(c)), own) for c, own in zip(completions, lists, strict=True)]
        return [verdict.share for verdict in sandbox.check_all(work, limits)]

    return reward


# --- the author's own


def _column(columns: Mapping[str, Any], name: str, kind: str) -> Sequence[Any]:
    if name not in columns:
        raise StageError(f"the reward `{kind}` reads the column `{name}`, which the data lacks", "rewards", code=LACKS)
    values: Sequence[Any] = columns[name]
    return values


def _own(spec: Mapping[str, Any], folder: Path) -> Reward:
    """A function of a file. It is given those of TRL's arguments that it takes. Raises: StageError."""
    path, _, name = str(spec["function"]).rpartition(":")
    function = _imported(folder / path, name)
    parameters = inspect.signature(function).parameters.values()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    taken_names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}

    def reward(**given: Any) -> list[float | None]:
        try:
            values = function(**(given if takes_all else {key: given[key] for key in given if key in taken_names}))
            return _checked(values, len(given["completions"]), spec["function"])
        except StageError:
            raise
        except Exception as error:
            text = f"the reward {spec['function']} failed: {type(error).__name__}: {error}"
            raise StageError(text, "rewards") from error

    return reward


def _imported(path: Path, name: str) -> Callable[..., Any]:
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.append(folder)  # for modules beside it
    try:
        spec = importlib.util.spec_from_file_location(f"reward_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        spec.loader.exec_module(module)  # type: ignore[union-attr]
        return getattr(module, name)  # type: ignore[no-any-return]
    except Exception as error:  # the author's code may raise anything
        text = f"the reward {path.name}:{name} cannot be loaded: {type(error).__name__}: {error}"
        raise StageError(text, "rewards") from error


def _checked(values: Any, count: int, name: str) -> list[float | None]:
    """The values as numbers. Raises: StageError."""
    values = list(values)
    if len(values) != count:
        raise StageError(f"the reward {name} returned {len(values)} values for {count} answers", "rewards")
    numbers = [None if value is None else float(value) for value in values]
    if wrong := [number for number in numbers if number is not None and not math.isfinite(number)]:
        raise StageError(f"the reward {name} returned {wrong[0]}; return None to leave an answer out", "rewards")
    return numbers


_KINDS: dict[str, Callable[[Mapping[str, Any]], Reward]] = {
    "exact": _exact, "regex": _regex, "format": _format, "length": _length, "code": _code,
}  # fmt: skip
