"""`python -m ftdsl.diagnose.generate [--check]`: the judges' docstrings -> docs/diagnoses.md."""

from __future__ import annotations

import sys
from pathlib import Path

from ftdsl.catalog.generate import update
from ftdsl.diagnose.about import sections
from ftdsl.diagnose.judge import JUDGES

TARGET = Path(__file__).parent.parent.parent / "docs" / "diagnoses.md"

HEAD = """\
# What `ftc diagnose` knows

Generated from the judges (`make generate`); `ftc explain CODE` prints the same. [diagnose.md](diagnose.md) shows how to use
them, and how often they are right.

"""

FAMILIES = {
    "FD1": "Runs that broke",
    "FD2": "What was learned",
    "FD3": "From step to step",
    "FD4": "Rates and clipping",
    "FD5": "Time and memory",
    "FD6": "Preferences",
}


def text() -> str:
    """The whole page."""
    parts = [HEAD]
    for start, title in FAMILIES.items():
        parts.append(f"## {title}\n\n")
        for code in sorted(code for code in JUDGES if code.startswith(start)):
            about = sections(JUDGES[code])
            lines = [about.pop("What it does"), about.pop("Why it matters")]
            lines += [f"{heading}: {text}" for heading, text in about.items()]
            parts.append(f"### {code} {JUDGES[code].name}\n\n" + "\n\n".join(lines) + "\n\n")
    return "".join(parts).rstrip() + "\n"


def main(check: bool) -> int:
    """Write the page, or (check) only report that it is out of date: exit 1."""
    return update({TARGET: text()}, check)


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
