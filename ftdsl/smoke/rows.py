"""Generates rows in the shape that a recipe declares, for smoke runs whose data is not on this machine."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from ftdsl.recipe.shape import Shape

COUNT = 32
SCHEME = "run://"
"""Paths of this scheme are relative to the run folder."""

_WORDS = (
    "river stone lamp garden window letter winter bridge copper violin harbour meadow candle falcon ladder marble "
    "thunder pepper island carpet saddle lantern orchard pencil glacier basket tunnel feather anchor velvet compass walnut"
).split()
_TOOL = {
    "name": "look_up", "description": "Looks a word up.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}  # fmt: skip


def rows(shape: Shape, number: int = 0) -> bytes:
    """JSON Lines: questions and answers in the columns and roles of the shape. No two rows are near-duplicates, not in files of
    different numbers either.
    """
    random = Random(number)
    return "".join(json.dumps(_row(shape, at, random), ensure_ascii=False) + "\n" for at in range(COUNT)).encode()


def _row(shape: Shape, at: int, random: Random) -> dict[str, Any]:
    topic = random.choice(_WORDS)
    question = f"What comes to mind at {topic}, {' '.join(random.sample(_WORDS, 8))}?"
    answer, worse = f"At {topic}: {' '.join(random.sample(_WORDS, 8))}.", f"Nothing at {at}."
    texts: dict[str, Any] = {
        "prompt": f"{question} {answer}" if shape.format == "text" else question,
        "query": "",
        "response": answer,
        "chosen": answer,
        "rejected": worse,
        "label": at % 2 == 0,
        "history": [],
        "system": "Answer in one sentence.",
        "tools": json.dumps([_TOOL]),
        "messages": [],
    }
    if shape.roles:
        texts["messages"] = [_turn(shape, who, text) for who, text in _talk(shape, topic, question, answer)]
        texts["chosen"], texts["rejected"] = _turn(shape, "assistant", answer), _turn(shape, "assistant", worse)
    return {column: texts[part] for part, column in shape.columns.items() if part in texts}


def _talk(shape: Shape, topic: str, question: str, answer: str) -> list[tuple[str, str]]:
    """A question and its answer; with tools, a tool call between them; for pairs, only the question."""
    if "chosen" in shape.columns:
        return [("user", question)]
    call = json.dumps({"name": "look_up", "arguments": {"word": topic}})
    called = [("call", call), ("tool", json.dumps({"meaning": topic}))] if "tools" in shape.columns else []
    return [("user", question), *called, ("assistant", answer)]


def _turn(shape: Shape, who: str, text: str) -> dict[str, str]:
    return {shape.roles["role"]: shape.roles[who], shape.roles["content"]: text}
