"""What `ftc explain CODE` says, as text or JSON."""

from __future__ import annotations

import json
import sys
import textwrap
from typing import Any

from ftdsl.diagnostics.codes import CODES


def explain_rule(asked: str, *, json_too: bool = False) -> int:
    """Print what a code or a name of one means. Exit 2 when there is none."""
    codes = found(asked)
    if not codes:
        from ftdsl.diagnostics.suggest import closest
        from ftdsl.engines.reference import names

        guess = closest(asked.upper(), CODES) or closest(asked, CODES.values()) or closest(asked, names())
        hint = (
            f"; did you mean `{guess}`?" if guess else "; write `ftc explain FILE STAGE.KEY`, or a code such as FT401"
        )
        print(f"error: there is no rule, key or block `{asked}`{hint}", file=sys.stderr)
        return 2
    from ftdsl.lint.about import told_of

    told = [told_of(code) for code in codes]
    if json_too:
        print(json.dumps(told[0] if len(told) == 1 else told, indent=2, ensure_ascii=False))
    else:
        print("\n\n".join(text_of(one) for one in told))
    return 0


def found(asked: str) -> list[str]:
    """The code asked for, in any case of letters, or all codes of that name."""
    if asked.upper() in CODES:
        return [asked.upper()]
    return [code for code, name in CODES.items() if name == asked.lower()]


def text_of(told: dict[str, Any]) -> str:
    """As a person reads it in a terminal."""
    lines = [f"{told['code']} {told['name']} ({', '.join(told['severities'])})"]
    for heading, text in told["about"].items():
        lines += ["", heading]
        if heading in ("Example", "Use instead"):
            lines += [f"    {line}".rstrip() for line in text.splitlines()]
        else:
            lines += [f"  {line}" for line in textwrap.wrap(text, 100, break_on_hyphens=False)]
    return "\n".join(lines)
