"""Token ids and labels of a row for people: text in parts, which of them are learned from. The same for every engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .labels import IGNORED


def learned_side(
    side: str, ids: Sequence[int], labels: Sequence[int], tokenizer: Any, *, whole: int = 0, padding: int = 0
) -> dict[str, Any]:
    """A row, or one answer of a preference: `parts` of text with whether they are learned from, `learned` tokens, `whole`: its
    length uncut. side: "", chosen or rejected; padding: tokens at the end that fill up a pack.
    """
    ids, labels = [int(number) for number in ids], [int(number) for number in labels]
    end = len(ids) - padding
    return {
        "side": side, "ids": ids, "labels": labels, "learned": sum(label != IGNORED for label in labels),
        "padding": padding, "parts": list(_segments(ids[:end], labels, tokenizer)),
        "tokens": [text_of(tokenizer, [number]) for number in ids[:end]], "whole": whole or len(ids),
    }  # fmt: skip


def asked_side(ids: Sequence[int], wanted: Sequence[int], tokenizer: Any, *, whole: int = 0) -> dict[str, Any]:
    """A prompt that the model answers itself: `labels` are the answer that is wanted, and nothing is learned from them."""
    ids, wanted = [int(number) for number in ids], [int(number) for number in wanted]
    parts = [{"learned": False, "text": text_of(tokenizer, ids)}, {"learned": None, "text": text_of(tokenizer, wanted)}]
    return {"side": "", "ids": ids, "labels": wanted, "learned": 0, "padding": 0, "parts": parts, "tokens": [],
            "whole": whole or len(ids)}  # fmt: skip


def text_of(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def _segments(ids: list[int], labels: list[int], tokenizer: Any) -> Iterator[dict[str, Any]]:
    """Runs of tokens that are all learned from, or all not, as text."""
    start = 0
    for at in range(1, len(ids) + 1):
        if at == len(ids) or (labels[at] == IGNORED) != (labels[start] == IGNORED):
            yield {"learned": labels[start] != IGNORED, "text": text_of(tokenizer, ids[start:at])}
            start = at
