"""What a smoke run replaced: kept for every key of every stage, reported once per change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ftdsl.record import frozen


@frozen
class Replacement:
    """A replaced value. was, now: values as text; location: "file:line" of the key, or of the stage if the key is not written."""

    stage: str
    key: str
    was: str
    now: str
    why: str
    location: str

    @property
    def change(self) -> str:
        """`duration 3 epochs -> 4 steps: a few steps`."""
        return f"{self.key} {self.was} -> {self.now}: {self.why}"

    def as_json(self) -> dict[str, Any]:
        """For programs: file and line are separate."""
        file, _, line = self.location.rpartition(":")
        return {
            "stage": self.stage, "key": self.key, "was": self.was, "now": self.now, "why": self.why, "file": file,
            "line": int(line),
        }  # fmt: skip


def lines(replaced: Sequence[Replacement]) -> Iterator[str]:
    """Every replacement as text; one that several stages share is reported once."""
    stages: dict[str, dict[str, list[str]]] = {}
    for replacement in replaced:
        stages.setdefault(replacement.change, {}).setdefault(replacement.location, []).append(replacement.stage)
    for change, locations in stages.items():
        stages_text = [f"{_names(names)} ({location})" for location, names in locations.items()]
        yield f"smoke: {', '.join(stages_text)}: {change}"


def _names(names: Sequence[str]) -> str:
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 3 else ", ".join(names)
