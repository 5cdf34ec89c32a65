"""How a judge is written: a function from `Curves` to a finding or None, under a code, with a docstring of fixed headings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ftdsl.diagnose.curves import Curves
from ftdsl.record import frozen


@frozen
class Change:
    """A way out: what it does, and the recipe's key and new value (`optim.lr`, `1e-5`); key "" where no key does it.

    factor: the value is the present one times this, where the recipe has one.
    """

    text: str
    key: str = ""
    value: str = ""
    factor: float = 0.0


@frozen
class Finding:
    """What is wrong with a run.

    message: a sentence; evidence: steps and numbers, a short line each; confidence: from 0 to 1; keys: the recipe's keys that
    decide it, the first that is set counts; step: where it begins, 0 for the whole run.
    """

    code: str
    name: str
    message: str
    evidence: tuple[str, ...]
    confidence: float
    keys: tuple[str, ...]
    changes: tuple[Change, ...]
    step: int = 0


@dataclass(frozen=True)
class Ill:
    """What a judge returns; `judge` adds its code and name."""

    message: str
    evidence: tuple[str, ...]
    confidence: float = 0.8
    keys: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    step: int = 0


Check: TypeAlias = Callable[[Curves], Ill | None]


@dataclass(frozen=True)
class Judge:
    """A check under its code. group: judges of one group explain the same part of a run, and the first that finds something
    is the finding: one cause, one finding. explains: groups whose findings follow from this one's.
    """

    code: str
    check: Check
    group: str
    explains: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.check.__name__.replace("_", "-")

    def __call__(self, curves: Curves) -> Finding | None:
        ill = self.check(curves)
        if ill is None:
            return None
        return Finding(self.code, self.name, ill.message, ill.evidence, ill.confidence, ill.keys, ill.changes, ill.step)


JUDGES: dict[str, Judge] = {}
"""By code, in the order they are asked (`ftdsl.diagnose.diagnosis` imports them all)."""


def judge(code: str, group: str, *explains: str) -> Callable[[Check], Check]:
    """Puts a function under a code. Its name, with `-` for `_`, is the name of the code."""

    def put(check: Check) -> Check:
        JUDGES[code] = Judge(code, check, group, explains)
        return check

    return put


def as_data(finding: Finding) -> dict[str, Any]:
    """A finding as JSON holds it."""
    changes: list[Mapping[str, Any]] = [
        {"text": change.text, "key": change.key or None, "value": change.value or None} for change in finding.changes
    ]
    return {
        "code": finding.code, "name": finding.name, "message": finding.message, "evidence": list(finding.evidence),
        "confidence": finding.confidence, "keys": list(finding.keys), "step": finding.step or None, "changes": changes,
    }  # fmt: skip
