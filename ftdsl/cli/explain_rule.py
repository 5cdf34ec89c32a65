"""`ftc explain CODE`: the documentation of a rule, as text or JSON."""

from __future__ import annotations

import json
import sys
import textwrap
from typing import Any

from ftdsl.diagnostics.codes import CODES


def explain_rule(query: str, *, json_too: bool = False) -> int:
    """Print the documentation of a rule, by code or name. Exit 2 if there is no such rule."""
    codes = matching_codes(query)
    if not codes and (diagnoses := _diagnoses(query)):
        _print(diagnoses, json_too=json_too)
        return 0
    if not codes:
        from ftdsl.diagnostics.suggest import closest
        from ftdsl.engines.reference import names

        guess = closest(query.upper(), CODES) or closest(query, CODES.values()) or closest(query, names())
        hint = (
            f"; did you mean `{guess}`?" if guess else "; write `ftc explain FILE STAGE.KEY`, or a code such as FT401"
        )
        print(f"error: there is no rule, key or block `{query}`{hint}", file=sys.stderr)
        return 2
    from ftdsl.lint.about import explanation_of

    _print([explanation_of(code) for code in codes], json_too=json_too)
    return 0


def _diagnoses(query: str) -> list[dict[str, Any]]:
    """What `ftc diagnose` finds, by code (FD204) or name."""
    from ftdsl.diagnose.about import documentation, matching

    return [documentation(code) for code in matching(query)]


def _print(rules: list[dict[str, Any]], *, json_too: bool) -> None:
    if json_too:
        print(json.dumps(rules[0] if len(rules) == 1 else rules, indent=2, ensure_ascii=False))
    else:
        print("\n\n".join(text_of(rule) for rule in rules))


def matching_codes(query: str) -> list[str]:
    """The code, in upper or lower case, or all codes of that name."""
    if query.upper() in CODES:
        return [query.upper()]
    return [code for code, name in CODES.items() if name == query.lower()]


def text_of(rule: dict[str, Any]) -> str:
    """The documentation of a rule as text for a terminal."""
    lines = [f"{rule['code']} {rule['name']} ({', '.join(rule['severities'])})"]
    for heading, text in rule["about"].items():
        lines += ["", heading]
        if heading in ("Example", "Use instead"):
            lines += [f"    {line}".rstrip() for line in text.splitlines()]
        else:
            lines += [f"  {line}" for line in textwrap.wrap(text, 100, break_on_hyphens=False)]
    return "\n".join(lines)
