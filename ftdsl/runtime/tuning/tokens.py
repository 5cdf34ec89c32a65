"""Conversations to token ids and labels, cut to a length. Standard library only.

The cuts are those of LLaMA-Factory 0.9.5 (data/processor/), so that both engines train on the same ids and labels.
"""

from __future__ import annotations

from typing import Any

from .formats import Format, Ids
from .rows import Row

IGNORED = -100
"""The label that does not count (torch.nn.CrossEntropyLoss, ignore_index)."""


def shares(prompt: int, answer: int, limit: int) -> tuple[int, int]:
    """Lengths of a prompt and an answer that fit into `limit` tokens: the shorter of both is kept whole if it takes less than
    half; otherwise both are cut in proportion."""
    if answer * 2 < limit:
        most = limit
    elif prompt * 2 < limit:
        most = limit - prompt
    else:
        most = int(limit * (answer / (prompt + answer)))
    answer = min(most, answer)
    return min(max(limit - answer, 0), prompt), answer


def supervised(format: Format, tokenizer: Any, row: Row, limit: int, train_on: str) -> dict[str, Ids]:
    """`input_ids` and `labels`. train_on: responses, last_response or everything."""
    last_only = train_on == "last_response"
    pairs = format.pairs(tokenizer, row.messages, row.system, last_only=last_only)
    if last_only:
        pairs.reverse()  # the last turns have priority
    ids: Ids = []
    labels: Ids = []
    length = int(format.efficient_eos)
    for at, (prompt, answer) in enumerate(pairs):
        if length >= limit:
            break
        kept, answered = shares(len(prompt), len(answer), limit - length)
        prompt, answer = prompt[:kept], answer[:answered]
        length += kept + answered
        if train_on == "everything":
            asked = prompt
        elif format.efficient_eos and at:
            asked = [tokenizer.eos_token_id] + [IGNORED] * (kept - 1)
        else:
            asked = [IGNORED] * kept
        learned = [IGNORED] * answered if last_only and at else answer
        turn, marks = prompt + answer, asked + learned
        ids, labels = (turn + ids, marks + labels) if last_only else (ids + turn, labels + marks)
    if format.efficient_eos:
        ids, labels = [*ids, tokenizer.eos_token_id], [*labels, tokenizer.eos_token_id]
    return {"input_ids": ids, "labels": labels}


def preference(format: Format, tokenizer: Any, row: Row, limit: int) -> dict[str, Ids]:
    """`prompt_ids`, `chosen_ids` and `rejected_ids`."""
    prompt, chosen = _answered(format, tokenizer, row, 0)
    _, rejected = _answered(format, tokenizer, row, 1)
    kept, answered = shares(len(prompt), max(len(chosen), len(rejected)), limit)
    return {"prompt_ids": prompt[:kept], "chosen_ids": chosen[:answered], "rejected_ids": rejected[:answered]}


def scored(format: Format, tokenizer: Any, row: Row, limit: int) -> dict[str, Ids]:
    """`chosen_ids` and `rejected_ids` with the prompt, for a reward model."""
    parts = preference(format, tokenizer, row, limit)
    return {name: parts["prompt_ids"] + parts[name] for name in ("chosen_ids", "rejected_ids")}


def feedback(format: Format, tokenizer: Any, row: Row, limit: int) -> dict[str, Any]:
    """`prompt_ids`, `completion_ids` and `label`."""
    prompt, answer = _answered(format, tokenizer, row, 0)
    kept, answered = shares(len(prompt), len(answer), limit)
    return {"prompt_ids": prompt[:kept], "completion_ids": answer[:answered], "label": bool(row.good)}


def prompted(format: Format, tokenizer: Any, row: Row, limit: int) -> Ids:
    """The prompt alone, up to where the answer begins; its end is kept."""
    prompt, _ = format.prompt_and_answer(tokenizer, [*row.messages, ("assistant", "")], row.system)
    return prompt[-limit:]


def _answered(format: Format, tokenizer: Any, row: Row, at: int) -> tuple[Ids, Ids]:
    prompt, answer = format.prompt_and_answer(tokenizer, [*row.messages, ("assistant", row.answers[at])], row.system)
    return prompt, [*answer, tokenizer.eos_token_id] if format.efficient_eos else answer


def plain(tokenizer: Any, texts: list[str], limit: int, *, packed: bool, end: str = "") -> list[Ids]:
    """Texts for pretraining: each with an end, cut to the limit; or (packed) joined, and split into blocks of the limit."""
    ends = [text + (end or tokenizer.eos_token) for text in texts]
    begins = bool(getattr(tokenizer, "add_bos_token", False))
    if not packed:
        ends = [tokenizer.bos_token + text for text in ends] if begins else ends
        return [ids[:limit] for ids in tokenizer(ends, add_special_tokens=False)["input_ids"]]
    joined = [id for ids in tokenizer(ends, add_special_tokens=False)["input_ids"] for id in ids]
    blocks = [joined[at : at + limit] for at in range(0, len(joined) // limit * limit, limit)]
    for block in blocks if begins else ():
        block[0] = tokenizer.bos_token_id
    return blocks
