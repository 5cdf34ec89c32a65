"""`python -m ftdsl.lint.generate [--check]`: the rules' docstrings -> docs/rules.md."""

from __future__ import annotations

import sys
from pathlib import Path

from ftdsl.diagnostics.codes import CODES
from ftdsl.lint.about import explanation_of

TARGET = Path(__file__).parent.parent.parent / "docs" / "rules.md"

HEAD = """\
# What `ftc check` knows

Made from the rules themselves (`make generate`); `ftc explain CODE` prints the same. Every example is run by the tests:
it raises its rule, and what to use instead does not. Fragments of YAML stand over a LLaMA-Factory configuration that is
fine; `# with:` says where it runs, `# file:` begins a file beside it.

An **error**: the engine stops on it, or does something else than what was asked. A **warning**: it does what was asked, and
that is probably not what was meant. An **info**: good to know.

Allow one with a comment on its line, alone on the line above, or at the head of the file for all of it:
`# ftc: allow FT505 "long rows are rare here"`. Warnings and infos can always be allowed; errors that predict what an engine
does only with a reason, since a prediction may be wrong; errors of the language never, since nothing sound is behind them.
Comments that nothing needs any more are said, and `--fix` takes them out.

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
            parts.append(f"Said where it happens: {', '.join(rest)}.\n\n")
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
    """Write the page, or (check) only say that it is out of date: exit 1."""
    stale = not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text()
    if stale:
        print(f"{TARGET.name} is out of date" if check else f"wrote {TARGET.name}")
    if not check:
        TARGET.write_text(text(), encoding="utf-8")
    return int(check and stale)


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
