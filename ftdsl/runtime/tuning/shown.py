"""Rows of a stage as its model sees them: token ids, which of them are learned from, what is cut; encoded as for the training.

Each row goes alone, so that what is left out is seen; texts that are packed go together.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..report import StageError
from ..row_parts import asked_side, learned_side
from . import models, on_policy, sources, tokens
from .formats import Format, format_of
from .rows import Row
from .tokens import IGNORED
from .trainers import kind_of

WHOLE = 1 << 20
"""Tokens that no row is cut at: what it would be without `max_len`."""
TOGETHER = 1000
"""Texts that are packed together: a batch of `datasets.Dataset.map`."""


def rows(config: dict[str, Any], count: int) -> dict[str, Any]:
    """`rows`: at most `count`, each a dictionary as runtime/show.py gives it; `limit`: `max_len`. Raises: StageError."""
    data, limit = config["data"], int(config["max_length"])
    generates = kind_of(data).generates
    kind = "prompt" if generates else "sft" if data["kind"] == "distill" else data["kind"]
    tokenizer = models.tokenizer_of(config)
    format = format_of(data["template"]) if "template" in data else Format("none")
    format.prepare(tokenizer)
    packed = kind == "pretrain" and data.get("packing") == sources.PACKED
    made: list[dict[str, Any]] = []
    for source in data["train"]:
        name = str(source.get("hub") or Path(source["file"]).name)
        share = TOGETHER if packed else -(-count // len(data["train"]))
        read = sources.load({**data, "train": [source], "limit": share}, "train", kind)
        if not len(read):
            raise StageError(f"`{name}` has no rows", "data")
        if packed:
            blocks = sources.tokenise(read, data | {"train": [source]}, "train", kind, tokenizer, format, limit)
            sides_of_blocks = [[learned_side("", row["input_ids"], row["labels"], tokenizer)] for row in blocks]
            made += [{"data": name, "dropped": False, "pieces": 1, "sides": sides} for sides in sides_of_blocks]
            continue
        room = limit - int(config.get("max_completion_length") or 0) if generates else limit
        made += [{"data": name, **_row(raw, source, data, kind, tokenizer, format, room)} for raw in read]
    name = format.name if "template" in data else ""
    return {"template": name, "limit": limit, "answers": generates, "rows": made[:count]}


def _row(
    raw: dict[str, Any],
    source: dict[str, Any],
    data: dict[str, Any],
    kind: str,
    tokenizer: Any,
    format: Format,
    limit: int,
) -> dict[str, Any]:
    """One row with the length it would have uncut; one that is left out has no sides."""
    if kind == "prompt":
        return _prompt(raw, source, tokenizer, format, limit)
    encode = sources.encoder(kind, data, tokenizer, format, limit)
    shape = sources.shape_of(source, kind)
    cut = encode([shape], [raw])
    if not cut:
        return {"dropped": True, "pieces": 1, "sides": []}
    whole = sources.encoder(kind, data, tokenizer, format, WHOLE)([shape], [raw])
    lengths = [len(ids) for _, ids, _ in _sides(whole[0], kind, format, tokenizer, shape.read(raw), WHOLE)]
    sides = [
        learned_side(side, ids, labels, tokenizer, whole=length)
        for (side, ids, labels), length in zip(
            _sides(cut[0], kind, format, tokenizer, shape.read(raw), limit), lengths, strict=True
        )
    ]
    tag = {"desirable": bool(cut[0]["label"])} if kind == "kto" else {}
    return {"dropped": False, "pieces": 1, "sides": sides} | tag


def _sides(
    record: dict[str, Any], kind: str, format: Format, tokenizer: Any, row: Row | None, limit: int
) -> Iterator[tuple[str, list[int], list[int]]]:
    """(side, ids, labels): what TRL's trainers make of a record (a prompt is masked, an answer counts)."""
    if "input_ids" in record:
        yield "", record["input_ids"], record["labels"]
    elif kind == "kto":
        prompt, answer = record["prompt_ids"], record["completion_ids"]
        yield "", prompt + answer, [IGNORED] * len(prompt) + answer
    else:
        assert row is not None, "it was encoded"
        asked = len(tokens.preference(format, tokenizer, row, limit)["prompt_ids"])
        for side in ("chosen", "rejected"):
            ids = record[f"{side}_ids"] if kind == "reward" else record["prompt_ids"] + record[f"{side}_ids"]
            yield side, ids, [IGNORED] * asked + ids[asked:]


def _prompt(raw: dict[str, Any], source: dict[str, Any], tokenizer: Any, format: Format, room: int) -> dict[str, Any]:
    """A prompt that the model answers; one without room for the answer is left out."""
    row = on_policy.read(sources.shape_of(source, "prompt"), raw)
    if row is None:
        return {"dropped": True, "pieces": 1, "sides": []}
    ids = tokens.prompted(format, tokenizer, row, WHOLE)
    if len(ids) > room:
        why = f"its prompt has {len(ids)} tokens, and {room} are left beside the answer (max_new_tokens)"
        return {"dropped": True, "why": why, "pieces": 1, "sides": []}
    wanted = on_policy.answered(format, tokenizer, row, row.answers[0])[1] if row.answers else []
    return {"dropped": False, "pieces": 1, "sides": [asked_side(ids, wanted, tokenizer)]}
