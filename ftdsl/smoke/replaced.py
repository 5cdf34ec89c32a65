"""What a smoke run put in place of what: kept for every word, said once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ftdsl.record import frozen


@frozen
class Replacement:
    """What stood there and what stands there now. `where`: the recipe's line; of what nobody wrote, the stage's."""

    stage: str
    key: str
    was: str
    now: str
    why: str
    where: str

    @property
    def change(self) -> str:
        """`duration 3 epochs -> 4 steps: a few steps`."""
        return f"{self.key} {self.was} -> {self.now}: {self.why}"

    def as_json(self) -> dict[str, Any]:
        """With the place apart, as a program wants it."""
        file, _, line = self.where.rpartition(":")
        return {
            "stage": self.stage, "key": self.key, "was": self.was, "now": self.now, "why": self.why, "file": file,
            "line": int(line),
        }  # fmt: skip


def lines(replaced: Sequence[Replacement]) -> Iterator[str]:
    """Every replacement in words; what several stages share is said once."""
    stages: dict[str, dict[str, list[str]]] = {}
    for one in replaced:
        stages.setdefault(one.change, {}).setdefault(one.where, []).append(one.stage)
    for change, places in stages.items():
        said = [f"{_names(names)} ({where})" for where, names in places.items()]
        yield f"smoke: {', '.join(said)}: {change}"


def _names(names: Sequence[str]) -> str:
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 3 else ", ".join(names)
