"""What ended a program, read from what it printed: the engine's messages and what they mean (catalog/data/faults.toml)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ftdsl import catalog
from ftdsl.credentials import masked
from ftdsl.printable import printable
from ftdsl.record import frozen, replace

CODE = "FT950"
"""The code of a cause that has no other."""
LATEST = 2 << 20
"""Bytes at a log's end that are searched."""


@frozen
class Cause:
    """Why a program ended. name: the entry of faults.toml, "" where the program's own message had to do; message: a sentence;
    keys: of the recipe, the first that is set counts; help: what to do; line: in the log, from 1, 0 where it is not known.
    """

    name: str
    message: str
    keys: tuple[str, ...]
    help: str
    code: str = CODE
    line: int = 0


def cause_of(text: str, context: str = "", before: str = "") -> Cause | None:
    """The first entry of the table that matches; None where none does. context: the same text with the lines of source code
    that a traceback quotes, in which only details are looked for; before: what was printed last before it, for details too.
    """
    context = context or text
    for name, entry in catalog.faults().items():
        if (match := re.search(entry["match"], text, re.MULTILINE)) and re.search(entry.get("near", ""), context):
            groups = [_detail(group, context, match.start(), before) for group in entry.get("details", ())]
            details = [detail for detail in groups if detail is not None]
            more = [_filled(detail["say"], where) for detail, where in details]
            say = "; ".join([_filled(entry["say"], match).strip(), *more])
            help = next((detail["help"] for detail, _ in details if "help" in detail), entry["help"])
            line = text.count("\n", 0, match.start()) + 1
            return Cause(name, say, tuple(entry["keys"]), _filled(help, match), entry.get("code", CODE), line)
    return None


AROUND = 20_000
"""Characters before and after a message in which its details are looked for: a traceback is shorter."""
LAST = 400
"""Characters before the first line at which something broke that say what was going on: a progress bar."""


def _detail(
    alternatives: Sequence[Mapping[str, str]], text: str, at: int, before: str
) -> tuple[Mapping[str, str], re.Match[str]] | None:
    """The first of these patterns that matches near the message, and where; None where none does."""
    near = (before if at < AROUND else "") + text[max(0, at - AROUND) : at + AROUND]
    for alternative in alternatives:
        if match := re.search(alternative["match"], near):
            return alternative, match
    return None


def _filled(text: str, match: re.Match[str]) -> str:
    """`{name}` is what the group of that name matched; other braces stay."""
    for name, value in match.groupdict(default="").items():
        text = text.replace(f"{{{name}}}", value)
    return text


_WRAPPER = re.compile(r"ChildFailedError|CalledProcessError|SystemExit|ProcessRaisedException|TaskError")
"""What a launcher raises when a process of its own failed: that one's error says why."""
_WARNING = re.compile(r"\bWARN(?:ING)?\b|\b\w*Warning\b")
_PREFIX = re.compile(
    r"^(?:\[\d+\] )?(?:\[rank\d+\]: ?|rank\d+: ?|\([\w.:]+ pid=\d+[^)\n]*\) ?|\d{1,5}: ?|\d{4}-\d\d-\d\dT[\d:.]+Z ?)",
    re.MULTILINE,
)
"""What launchers write before every line of a process: torchrun, Ray, `srun --label`, containers."""
_FRAME = re.compile(r'\s*File ".*", line \d+')
_INDENTED = re.compile(r" {4,}\S")
_ENDED_WELL = re.compile(r"\*{5} train metrics \*{5}|'train_runtime'|Training completed\.|\btrain_loss +=")
_ERROR = r"^(?:ERROR:? )?(?P<type>[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Failure))"
_BROKE = re.compile(
    rf"Traceback \(most recent call last\)|{_ERROR}(?::|$)"
    r"|exitcode\s*: -?\d|\bKilled\b|oom-kill|OOM ?Killed|Segmentation fault|Fatal Python error|Bus error|\(SIG[A-Z]{3,5}\)"
    r"|slurmstepd: error|srun: error|core dumped|returned non-zero exit|return code = -?[1-9]|terminated with signal"
    r"|\[E[\d ][^\]\n]{0,80}\.cpp:\d+\]|terminate called after"
    r"|^[\w./-]+: error: (?:argument |unrecognized arguments|the following arguments)",
    re.MULTILINE,
)
_LAST = re.compile(rf"{_ERROR}(?:: (?P<text>.+))?$", re.MULTILINE)


def _spoken(text: str) -> str:
    """A log without its warnings and without the source code that its tracebacks quote (`    raise ValueError(f"Template {name}
    does not exist.")`), which come after the line of a frame; what a message indents stays. The number of lines is the same.
    """
    lines, quoted = [], False
    for line in text.split("\n"):
        quoted = bool(_FRAME.match(line)) or (quoted and bool(_INDENTED.match(line)))
        lines.append("" if _WARNING.search(line) or (quoted and _INDENTED.match(line)) else line)
    return "\n".join(lines)


def cause_in_log(text: str) -> Cause | None:
    """Why the program that printed a log broke; None where it did not.

    Warnings that were survived do not count: only what comes after the last sign that a training ended well, from the first
    line at which something broke on. Of several processes the table's order decides: a process that is out of memory explains
    those that waited for it.
    """
    skipped = max(0, len(text) - LATEST)
    text = _PREFIX.sub("", re.sub(r"\x1b\[[0-9;]*m", "", text[skipped:]))
    well = max((match.end() for match in _ENDED_WELL.finditer(text)), default=0)
    broke = _BROKE.search(text, well)
    if broke is None:
        return None
    start = text.rfind("\n", 0, broke.start()) + 1
    rest = text[start:]
    cause = cause_of(_spoken(rest), rest, text[max(well, start - LAST) : start])
    if cause is not None:
        line = 0 if skipped else cause.line + text.count("\n", 0, start)
        return replace(cause, message=masked(printable(cause.message)), line=line)
    errors = list(_LAST.finditer(text, well))
    if not errors:
        return None
    last = next((error for error in reversed(errors) if not _WRAPPER.search(error["type"])), errors[-1])
    kind, _, words = printable(last.group(0)).partition(": ")
    message = f"{kind}: {masked(words)}"[:300] if words else kind
    line = 0 if skipped else text.count("\n", 0, last.start()) + 1
    return Cause("", f"the program says: {message}", tuple(parameter_keys(message)), "", CODE, line)


def parameter_keys(message: str) -> dict[str, None]:
    """The recipe's keys for the engine's parameters that are in backticks, or after dashes."""
    names: dict[str, None] = {}
    for name in re.findall(r"`-{0,2}(\w+)`|--(\w+)", message):
        names |= dict.fromkeys(catalog.keys_of_parameter(name[0] or name[1]))
    return names


def as_data(cause: Cause) -> dict[str, Any]:
    """A cause as JSON holds it."""
    return {"code": cause.code, "cause": cause.name or None, "message": cause.message, "keys": list(cause.keys),
            "help": cause.help, "line": cause.line or None}  # fmt: skip
