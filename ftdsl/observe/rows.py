"""Rows as the model sees them, as text: which tokens are learned from, and where a row is cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LEARNED, PROMPT, HEAD, END = "\x1b[1;32m", "\x1b[2m", "\x1b[36m", "\x1b[0m"
OPEN, CLOSE = "⟦", "⟧"
"""Around what is learned from, where there is no colour."""

IDS = 24
"""Token ids that are shown of a row; `--json` has all."""


def lines(shown: Mapping[str, Any], *, color: bool, ids: bool) -> Iterator[str]:
    """All rows. shown: what runtime/show.py wrote; ids: every token of a row, one a line."""
    for number, row in enumerate(shown["rows"], 1):
        if number > 1:
            yield ""
        if row["dropped"]:
            why = row.get("why") or "the engine calls it invalid (roles, or no answer)"
            yield _head(f"row {number} of {row['data']}: left out, {why}", color)
            continue
        for side in row["sides"]:
            yield _head(_title(number, row, side, shown), color)
            yield _text(side, color)
            if ids and side["tokens"]:
                yield from _tokens(side)
            elif not side.get("tokens") or not ids:
                yield f"ids: {_some(side['ids'])}"


def _title(number: int, row: Mapping[str, Any], side: Mapping[str, Any], shown: Mapping[str, Any]) -> str:
    kind = f" {side['side']}" * bool(side["side"])
    if "desirable" in row:
        kind += " (desirable)" if row["desirable"] else " (undesirable)"
    length, limit = len(side["ids"]), shown["limit"]
    text = f"row {number} of {row['data']}{kind}: {length - side['padding']} tokens"
    if shown["answers"]:
        text += f", and {len(side['labels'])} of the wanted answer"
    else:
        text += f", {side['learned']} learned from"
    if side["padding"]:
        text += f", {side['padding']} of padding"
    if side["whole"] > length:
        text += f"; CUT: it has {side['whole']}, and `max_len` is {limit}"
    if not shown["answers"] and not side["learned"]:
        text += "; NOTHING is learned from it"
    return text


def _head(text: str, color: bool) -> str:
    return f"{HEAD}{text}{END}" if color else f"== {text}"


def _text(side: Mapping[str, Any], color: bool) -> str:
    parts = []
    for part in side["parts"]:
        if part["learned"] is None:
            parts.append(f"\n{HEAD}wanted:{END} {_safe(part['text'])}" if color else f"\nwanted: {_safe(part['text'])}")
        elif color:
            parts.append(f"{LEARNED if part['learned'] else PROMPT}{_safe(part['text'])}{END}")
        else:
            text = _safe(part["text"])
            parts.append(f"{OPEN}{text}{CLOSE}" if part["learned"] else text)
    return "".join(parts)


def _safe(text: str) -> str:
    """Without control characters, which could steer the terminal; lines stay lines."""
    return "".join(c if c in "\n\t" or c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _tokens(side: Mapping[str, Any]) -> Iterator[str]:
    for number, token, label in zip(side["ids"], side["tokens"], side["labels"], strict=False):
        yield f"{number:>8}  {'learned' if label != -100 else '       '}  {token!r}"


def _some(ids: list[int]) -> str:
    return " ".join(map(str, ids[:IDS])) + (f" … ({len(ids)})" if len(ids) > IDS else "")
