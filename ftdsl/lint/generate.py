"""`python -m ftdsl.lint.generate [--check]`: the rules' docstrings -> docs/rules.md."""

from __future__ import annotations

import sys
from pathlib import Path

from ftdsl.catalog.generate import update
from ftdsl.diagnostics.codes import CODES
from ftdsl.lint.about import explanation_of

TARGET = Path(__file__).parent.parent.parent / "docs" / "rules.md"

HEAD = """\
# What `ftc check` knows

Generated from the rules (`make generate`); `ftc explain CODE` prints the same. The tests run every example: it triggers
its rule, and "Use instead" does not. Fragments of YAML are added to a valid LLaMA-Factory configuration, or to one
of TRL (`# with: trainer=dpo`); `# with:` gives facts of the environment, `# file:` starts another file.

An **error**: the engine stops, or does something else than requested. A **warning**: the engine does what was requested,
which is probably not what was meant. An **info**: a note.

Allow a code with a comment on its line, alone on the line above, or at the top of the file for the whole file:
`# ftc: allow FT505 "long rows are rare here"`. Warnings and infos can always be allowed; errors that predict what an
engine does need a reason, since a prediction may be wrong; errors of the language can never be allowed. Comments that are
no longer needed are reported, and `--fix` removes them.

"""

FAMILIES = {
    "FT0": "Keys, values, syntax, names, units",
    "FT1": "Schedule, steps, evaluation, saving",
    "FT2": "Precision, quantisation, attention",
    "FT3": "Adapters and optimisers",
    "FT4": "Distributed",
    "FT5": "Data and templates",
    "FT6": "Stages and hand-offs",
    "FT7": "Memory, disk, choices",
    "FT8": "Recovery",
    "FT9": "Environment, versions, runs",
}


def text() -> str:
    """The whole page."""
    parts = [HEAD]
    for start, title in FAMILIES.items():
        rules = [explanation_of(code) for code in CODES if code.startswith(start)]
        explained = [rule for rule in rules if rule["about"]]
        parts.append(f"## {title}\n\n")
        parts += [_rule(rule["code"], rule["name"], rule["severities"], rule["about"]) for rule in explained]
        if rest := [f"{rule['code']} {rule['name']}" for rule in rules if not rule["about"]]:
            parts.append(f"Without a section of their own: {', '.join(rest)}.\n\n")
    return "".join(parts).rstrip() + "\n"


def _rule(code: str, name: str, kinds: list[str], about: dict[str, str]) -> str:
    lines = [f"### {code} {name}", "", f"*{', '.join(kinds)}*"]
    for heading, text in about.items():
        if heading in ("Example", "Use instead"):
            lines += ["", f"{heading}:", "```", text.rstrip(), "```"]
        elif heading in ("What it does", "Why it matters", "In a recipe"):
            lines += ["", text]
        else:
            lines += ["", f"{heading}: {text}"]
    return "\n".join(lines) + "\n\n"


def main(check: bool) -> int:
    """Write the page, or with `check` only report that it is out of date: exit 1."""
    return update({TARGET: text()}, check)


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
