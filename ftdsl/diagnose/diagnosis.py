"""All judges over one training: one cause, one finding."""

from __future__ import annotations

from ftdsl.diagnose import judges
from ftdsl.diagnose.curves import Curves
from ftdsl.diagnose.judge import JUDGES, Finding

__all__ = ["diagnose", "judges"]

LEAST = 5
"""Losses that are needed to call a run healthy."""
FEWEST = 3
"""Losses that are needed to say anything; most judges ask for more."""


def diagnose(curves: Curves) -> list[Finding]:
    """What is wrong, gravest first; [] of a healthy run. What another finding explains is left out."""
    if len(curves.loss) < FEWEST:
        return []
    findings: list[Finding] = []
    explained: set[str] = set()
    for judge in JUDGES.values():
        if judge.group in explained or (judge.group != "broken" and not curves.loss.finite.values):
            continue
        if finding := judge(curves):
            findings.append(finding)
            explained |= {judge.group, *judge.explains}
    return findings
