"""Text that is safe for a terminal: no control sequences and no characters that change the text's direction.

Imports nothing of ftdsl. Recipes, logs and file names are untrusted.
"""

from __future__ import annotations

import re
from functools import cache

_LOW = "\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f"
_HIGH = "\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff"
_COLOR = "(\\x1b\\[[0-9;]*m)|"


@cache
def _unsafe(start: str = "") -> re.Pattern[str]:
    """Compiled on demand, which takes 2 ms and is rarely needed."""
    return re.compile(f"{start}[{_LOW}{_HIGH}]|\\r(?!\\n)")


def printable(text: str) -> str:
    """The text with control characters escaped: `\\x1b[31m`, `\\u202e`. Line ends and tabs are kept.

    JSON stays equivalent: characters that it allows unescaped (all but C0) get JSON escapes.
    """
    return text if _is_plain(text) else _unsafe().sub(_written_out, text)


def with_colors(text: str) -> str:
    """The same, but colour sequences are kept: for text that ftc itself coloured."""
    return text if _is_plain(text) else _unsafe(_COLOR).sub(lambda match: match[1] or _written_out(match), text)


def _is_plain(text: str) -> bool:
    return text.replace("\n", "").replace("\t", "").isprintable()


def one_line(text: str) -> str:
    """A name as part of a line, with line ends escaped too."""
    return (
        text if text.isprintable() else printable(text).replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")
    )


def shortened(text: str, most: int) -> str:
    """A text of at most `most` characters; one that is longer ends in `…`."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def typed(name: str) -> str:
    """A name quoted for a shell, on one line: `a.ft`, `'a b.ft'`, `$'a\\nb.ft'`."""
    from shlex import quote

    shown = one_line(name)
    if shown == name:
        return quote(name)
    escaped = one_line(name.replace("\\", "\\\\").replace("'", "\\'"))
    return f"$'{escaped}'"


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x20 else f"\\u{code:04x}"
