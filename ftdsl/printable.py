"""Text that a terminal only shows: no character in it moves the cursor, changes a colour, or turns what follows around.

Imports nothing of ftdsl. What is shown of recipes, logs and file names was written by others.
"""

from __future__ import annotations

import re
from functools import cache

_LOW = "\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f"
_HIGH = "\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff"
_COLOR = "(\\x1b\\[[0-9;]*m)|"


@cache
def _unsafe(start: str = "") -> re.Pattern[str]:
    """Takes 2 ms to make, and most texts have no need of it."""
    return re.compile(f"{start}[{_LOW}{_HIGH}]|\\r(?!\\n)")


def printable(text: str) -> str:
    """The text with every control character written out: `\\x1b[31m`, `\\u202e`. Line ends and tabs stay.

    JSON stays the same JSON: what it may hold unescaped (all but C0) is written the way JSON escapes it.
    """
    return text if _is_plain(text) else _unsafe().sub(_written_out, text)


def with_colors(text: str) -> str:
    """The same, but for the sequences that set colours: for what ftc itself has coloured."""
    return text if _is_plain(text) else _unsafe(_COLOR).sub(lambda match: match[1] or _written_out(match), text)


def _is_plain(text: str) -> bool:
    return text.replace("\n", "").replace("\t", "").isprintable()


def one_line(text: str) -> str:
    """A name, as part of a line: its line ends are written out too."""
    return (
        text if text.isprintable() else printable(text).replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")
    )


def typed(name: str) -> str:
    """A name as it is typed into a shell, on one line whatever it holds: `a.ft`, `'a b.ft'`, `$'a\\nb.ft'`."""
    from shlex import quote

    shown = one_line(name)
    if shown == name:
        return quote(name)
    escaped = one_line(name.replace("\\", "\\\\").replace("'", "\\'"))
    return f"$'{escaped}'"


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x20 else f"\\u{code:04x}"
