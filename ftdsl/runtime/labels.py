"""Looks at the rows a stage is about to learn from: a row whose labels are all masked teaches nothing.

The engine itself trains on such rows without a word: the loss is then not a number, or 0.
"""

from __future__ import annotations

from typing import Any

from .report import Log, StageError

IGNORED = -100
"""The label that does not count (torch.nn.CrossEntropyLoss, ignore_index; llamafactory/extras/constants.py)."""

SAMPLE = 256
"""Rows looked at, spread over all there are."""

WARN_ABOVE = 0.05
"""The share of rows without labels above which there is a warning."""


def look(loader: Any, config: dict[str, Any], log: Log) -> None:
    """Raises: StageError when no row has a token to learn; warns when many have none. Rows that stream are not looked at."""
    data_set = getattr(loader, "dataset", None)
    names = [name for name in getattr(data_set, "column_names", None) or () if _counts(name)]
    if data_set is None or not names or not hasattr(data_set, "select") or not len(data_set):
        return
    seen = data_set.select(range(0, len(data_set), max(1, len(data_set) // SAMPLE)))
    silent, cut = 0, 0
    limit = int(config.get("cutoff_len") or 0)
    for row in seen:
        if not any(label != IGNORED for name in names for label in row[name]):
            silent += 1
            cut += max(len(row[name]) for name in names) >= limit > 0
    if silent:
        _tell(silent, cut, len(seen), limit, log)


def _counts(name: str) -> bool:
    """`labels`, `chosen_labels`, `rejected_labels`; not the reference rows of kto."""
    return name == "labels" or (name.endswith("_labels") and not name.startswith("kl_"))


def _tell(silent: int, cut: int, seen: int, limit: int, log: Log) -> None:
    if cut * 2 >= silent:
        why = f"prompts fill `max_len = {limit}`, and nothing of the answers is left"
        keys, help = ("max_len", "data"), "raise `max_len`, or shorten the prompts"
    else:
        why = "their answers are empty, or masked"
        keys, help = ("train_on", "data"), "look at the answers in the data, and at `train_on`"
    if silent == seen:
        text = f"every label is masked, so there is nothing to learn: {why}"
        raise StageError(text, *keys, help=help, code="FT951")
    if silent > WARN_ABOVE * seen:
        text = f"{silent / seen:.0%} of the rows teach nothing: {why}"
        log.warn(StageError(text, *keys, help=help, code="FT951"))
