"""Types of keys and arguments, as the vocabulary names them (`list(name)`, `share | count`), and their descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from ftdsl.record import frozen


@frozen(eq=True)
class Type:
    """`name` with at most one argument (`list(int)`), or a union of `options` (then `name` is "union")."""

    name: str
    item: Type | None = None
    options: tuple[Type, ...] = ()

    def __str__(self) -> str:
        if self.options:
            return " | ".join(map(str, self.options))
        return f"{self.name}({self.item})" if self.item else self.name


@lru_cache(maxsize=512)
def parse_type(text: str) -> Type:
    """`share | list(name)` -> Type. Types come from the vocabulary, so an invalid one is a bug, not a user's error.

    Raises: ValueError.
    """
    parts = [part.strip() for part in _split(text)]
    if len(parts) > 1:
        return Type("union", options=tuple(parse_type(part) for part in parts))
    name, bracket, rest = parts[0].partition("(")
    if not bracket:
        return Type(name)
    if not rest.endswith(")"):
        raise ValueError(f"unbalanced type {text!r}")
    return Type(name, parse_type(rest[:-1]))


def _split(text: str) -> list[str]:
    """Split at each `|` outside parentheses."""
    parts, depth = [""], 0
    for char in text:
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


_DESCRIPTIONS = {
    "bool": "`true` or `false`",
    "int": "a whole number",
    "number": "a number",
    "share": "a share such as `5%`",
    "rate": "a rate such as `2e-5`",
    "count": "a count such as `1000` or `4Ki`",
    "bytes": "a size such as `80GB`",
    "time": "a time such as `30min`",
    "money": "an amount such as `200 USD`",
    "text": "a text in quotes",
    "path": "a path in quotes",
    "script": "a text in quotes",
    "variable": 'a text in quotes, or `secret("NAME")`',
    "name": "a name",
    "member": "one of its members",
    "model": 'a model such as `hf("org/name")`, or a stage',
    "data": 'data such as `file("data.jsonl")`, or a data stage',
    "push": '`hf("me/name")`',
    "stage": "the name of a stage",
    "span": "a length such as `3 epochs` or `2000 steps`",
    "steps": "a number of steps such as `100 steps`",
    "epochs": "a number of epochs such as `1 epoch`",
    "tokens": "a number of tokens such as `500M tokens`",
    "stderrs": "standard errors such as `1 stderr`",
    "every": "an interval such as `100 steps`, `1 epoch`, `25%` or `never`",
    "warmup": "a share such as `3%` or steps such as `100 steps`",
    "level": "a share such as `10%` or a number",
    "part": "a share such as `5%` or a count such as `500`",
    "metric": "a metric such as `eval_loss`",
    "order": "`lowest(metric)` or `highest(metric)`",
    "bound": "a bound such as `at_least(30%)`",
    "goal": "a goal such as `minimize(sft.eval_loss)`",
    "phase": "phases such as `warmup(500 steps)`",
    "server": '`server("http://…")`',
    "exact": "`exact`",
    "range": "a range such as `1 .. 3`",
    "any": "a value",
    "auto": "`auto`",
    "none": "`none`",
}


def describe(kind: Type) -> str:
    """The type as text, for messages."""
    if kind.options:
        return either([describe(option) for option in kind.options])
    if kind.name == "list" and kind.item:
        return f"a list, each {describe(kind.item)}"
    if kind.name == "range" and kind.item:
        return "a range such as `1 .. 3`"
    return _DESCRIPTIONS.get(kind.name, f"a value of type {kind.name}")


def either(parts: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`; each once."""
    unique = list(dict.fromkeys(parts))
    return unique[0] if len(unique) == 1 else f"{', '.join(unique[:-1])} or {unique[-1]}"
