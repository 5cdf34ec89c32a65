"""Suggestions: the known word closest to an unknown one."""

from __future__ import annotations

from collections.abc import Iterable

FAR = 99

LONGEST = 80
"""Maximum length of a word to compare."""


def closest(word: str, choices: Iterable[str]) -> str | None:
    """The closest choice; None if there is none, or if two are equally close."""
    ranked = _ranked(word, choices) if len(word) <= LONGEST else []
    if not ranked or (len(ranked) > 1 and ranked[0][0] == ranked[1][0]):
        return None
    return ranked[0][1]


def distance(left: str, right: str) -> int:
    """The number of edits (insert, delete, replace, swap adjacent letters) between two words."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        before, last, row = row, before, [i]
        for j, b in enumerate(right, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and b == left[i - 2]:
                best = min(best, last[j - 2] + 1)
            row.append(best)
    return row[-1]


def _ranked(word: str, choices: Iterable[str]) -> list[tuple[int, str]]:
    """Close choices with their rank; equals in alphabetical order, so that the result is deterministic."""
    ranks = ((_rank(word, choice), choice) for choice in set(choices) if choice != word)
    return sorted((rank, choice) for rank, choice in ranks if rank < FAR)


def _rank(word: str, choice: str) -> int:
    """The rank of a choice: by spelling; then the same parts in another order, or one word a part of the other."""
    left, right = _folded(word), _folded(choice)
    allowed = _allowed(left, right)
    if (
        abs(len(left) - len(right)) <= allowed and len(set(left) - set(right)) <= allowed
    ):  # each different letter costs an edit
        edits = distance(left, right)
        if edits <= allowed:
            return edits
    if "_" not in left and "_" not in right:
        return FAR
    parts, other_parts = left.split("_"), right.split("_")
    if sorted(parts) == sorted(other_parts):
        return 3
    return 10 if _is_part(parts, other_parts) or _is_part(other_parts, parts) else FAR


def _folded(word: str) -> str:
    return word.casefold().replace("-", "_")


def _allowed(left: str, right: str) -> int:
    """The maximum number of edits for words of this length; short words are soon similar."""
    length = max(len(left), len(right))
    if length <= 4:
        return 1 if length > 1 else 0
    return max(2, length // 5)


def _is_part(parts: list[str], other_parts: list[str]) -> bool:
    """`rank` is a part of `lora_rank`, `save_every` of `save_every_steps`; parts of two letters are too ambiguous."""
    joined = "_".join(parts)
    return len(joined) > 2 and len(parts) < len(other_parts) and f"_{joined}_" in f"_{'_'.join(other_parts)}_"
