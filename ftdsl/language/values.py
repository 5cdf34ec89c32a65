"""Values after names and units are resolved. Plain data: no spans, comparable, hashable, serialisable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, TypeAlias

from ftdsl.record import frozen
from ftdsl.source import Span

AmountUnit: TypeAlias = Literal["epochs", "steps", "tokens", "time", "share", "count", "rate", "stderrs"]


@frozen(eq=True)
class Amount:
    """A number whose unit decides its meaning: `3 epochs`, `600 steps`, `5%` (share: 0.05), `30min` (time: seconds)."""

    number: float
    unit: AmountUnit


@frozen(eq=True)
class Term:
    """A member of a closed set or a call, with its options by name: `cosine`, `galore(rank = 128)`, `hf("a/b")`.

    Positional arguments are stored under the names of the signature: `hf("a/b")` is `Term("hf", {"id": "a/b"})`.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.name, repr(self.options)))


@frozen(eq=True)
class StageRef:
    """A stage (or data stage) by name and, where given, a part of it: `raw.eval`, `merge.path`.

    `run` is the variant (`name=muon`) once axes are expanded, else "".
    """

    stage: str
    part: str = ""
    run: str = ""

    @property
    def key(self) -> str:
        """The key of the stage: `sft`, `sft@seed=1`."""
        return f"{self.stage}@{self.run}" if self.run else self.stage


@frozen(eq=True)
class Range:
    """`low .. high`, both ends included."""

    low: Any
    high: Any


VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""Names of environment variables that every shell accepts."""


@frozen(eq=True)
class Secret:
    """A secret environment variable; only its name is ever emitted."""

    variable: str


OriginKind: TypeAlias = Literal[
    "engine", "default", "from", "include", "file", "stage", "profile", "set", "param", "auto"
]


@frozen
class Origin:
    """Who set a value: its layer, `file:line` or flag, and the reason for a choice of the compiler."""

    kind: OriginKind
    location: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.location or self.kind, self.reason and f"({self.reason})") if part)


@frozen
class Value:
    """A resolved value of a key: its data, its span, and who set it."""

    data: Any
    span: Span | None
    origin: Origin


@frozen(eq=True)
class Slot:
    """`{name}` in a script: the name, and its value in parts."""

    name: str
    value: tuple[str | StageRef, ...]


@frozen(eq=True)
class Script:
    """The user's shell code with its slots kept separate, so that a value never becomes code."""

    parts: tuple[str | Slot, ...]
