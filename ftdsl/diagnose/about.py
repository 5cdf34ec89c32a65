"""What a judge documents: its docstring, by heading. Read by `ftc explain`, docs/diagnoses.md and the tests."""

from __future__ import annotations

import inspect
import re
from typing import Any

from ftdsl.diagnose import judges
from ftdsl.diagnose.judge import JUDGES, Judge

__all__ = ["documentation", "judges", "matching", "sections"]

HEADINGS = ("What it does", "Why it matters", "Threshold", "What to do", "Source")
_HEADING = re.compile(rf"^({'|'.join(HEADINGS)}):[ \n]", re.MULTILINE)


def sections(judge: Judge) -> dict[str, str]:
    """Heading -> text. Raises: ValueError when headings are missing, doubled or out of order."""
    parts = _HEADING.split(inspect.getdoc(judge.check) or "")
    if tuple(parts[1::2]) != HEADINGS:
        raise ValueError(f"{judge.name}: headings are {parts[1::2]}, not {list(HEADINGS)}")
    texts = (" ".join(text.split()) for text in parts[2::2])
    return {heading: text[:1].upper() + text[1:] for heading, text in zip(HEADINGS, texts, strict=True)}


def documentation(code: str) -> dict[str, Any]:
    """Everything about a diagnosis: code, name and the docstring by heading, in the shape of a rule's documentation."""
    judge = JUDGES[code]
    return {"code": code, "name": judge.name, "severities": ["diagnosis"], "about": sections(judge)}


def matching(query: str) -> list[str]:
    """The code, in upper or lower case, or the code of that name."""
    if query.upper() in JUDGES:
        return [query.upper()]
    return [code for code, judge in JUDGES.items() if judge.name == query.lower()]
