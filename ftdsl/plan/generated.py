"""Rows made up in the shape a recipe declares, for smoke runs whose data is out of reach."""

from __future__ import annotations

import json
from typing import Any

from ftdsl.recipe.shape import Shape

COUNT = 32
SCHEME = "run://"
"""Paths of this scheme are seen from the run folder itself."""

_WORDS = ("river", "stone", "lamp", "garden", "window", "letter", "winter", "bridge")


def rows(shape: Shape) -> bytes:
    """JSON Lines: questions and answers in the columns and by the speakers of the shape."""
    return "".join(json.dumps(_row(shape, at), ensure_ascii=False) + "\n" for at in range(COUNT)).encode()


def _row(shape: Shape, at: int) -> dict[str, Any]:
    word = _WORDS[at % len(_WORDS)]
    question, answer, worse = f"Say the word {word}, number {at}.", f"The word is {word}.", f"I do not know {at}."
    texts: dict[str, Any] = {
        "prompt": f"{question} {answer}" if shape.format == "text" else question,
        "query": "",
        "response": answer,
        "chosen": answer,
        "rejected": worse,
        "label": at % 2 == 0,
        "history": [],
        "system": "",
        "tools": "",
        "messages": [],
    }
    if shape.roles:
        pairs = "chosen" in shape.columns
        turns = [("user", question)] if pairs else [("user", question), ("assistant", answer)]
        texts["messages"] = [_turn(shape, who, text) for who, text in turns]
        texts["chosen"], texts["rejected"] = _turn(shape, "assistant", answer), _turn(shape, "assistant", worse)
    return {column: texts[part] for part, column in shape.columns.items() if part in texts}


def _turn(shape: Shape, who: str, text: str) -> dict[str, str]:
    return {shape.roles["role"]: shape.roles[who], shape.roles["content"]: text}
