"""Why a stage failed, as a sentence with a span of the recipe: from its last event, else from the end of its log.

What engines say and what it means is data: catalog/data/faults.toml.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftdsl.diagnose.causes import CODE, Cause, cause_in_log, cause_of, parameter_keys
from ftdsl.diagnostics import Diagnostic, Severity
from ftdsl.plan.plan import Plan
from ftdsl.recipe.recipe import Stage
from ftdsl.record import frozen
from ftdsl.run.launchers.log import last_lines
from ftdsl.runtime import events
from ftdsl.source import Span

LINES = 400
"""Lines at a log's end that are searched."""

_LAST = re.compile(
    r"^(?:\S+: )?(?P<type>[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Failure))(?:: (?P<text>.+))?$"
)


@frozen
class Fault:
    """A sentence, the keys of the recipe it is about (the first that is set counts), and what to do.

    `known` is False if the message is the engine's own; `cause`: the entry of faults.toml, if it is one of them.
    """

    message: str
    keys: tuple[str, ...] = ()
    help: str = ""
    code: str = CODE
    known: bool = True
    cause: str = ""


def read(end: Mapping[str, Any], log: Path, status: int, log_start: int = 0) -> Fault:
    """What ended a stage. `end`: its last event (a message of our own, or an exception); `status`: of its script; of its log
    what comes after `log_start` bytes.
    """
    if end.get("message"):
        return fault_of(end, log.parent.parent)
    errors: list[str] = end.get("error", [])
    lines = last_lines(log, LINES, log_start)
    for text in errors:
        if fault := _known(cause_of(text)):
            return fault
    if not errors and (fault := _known(cause_in_log("\n".join(lines)))):
        return fault
    return _engine_message(errors[0] if errors else "", lines, status)


SPARE = 1 << 20
"""Bytes: a disk with less is full, and what a stage had to say about it could not be written."""


def full_disk(*paths: Path) -> Fault | None:
    """That the disk of one of these is full; None where none is."""
    for path in paths:
        with contextlib.suppress(OSError):
            disk = os.statvfs(path)
            if disk.f_bavail * disk.f_frsize < SPARE or (disk.f_files and not disk.f_favail):
                return _known(cause_of(os.strerror(errno.ENOSPC)))
    return None


def fault_of(event: Mapping[str, Any], run: Path) -> Fault:
    """A fault that the runtime itself reports, or warns of, in a run folder."""
    keys = tuple(str(key) for key in event.get("keys") or ())
    message = from_here(str(event["message"]), run)
    return Fault(message, keys, str(event.get("help") or ""), str(event.get("code") or CODE))


def from_here(text: str, run: Path) -> str:
    """Files that a run sees through its link to the recipe's folder, as they are typed where `ftc` was called."""
    folder = os.path.relpath(os.path.realpath(run / "inputs")).replace(os.sep, "/")
    return re.sub(r"(?<![\w./-])inputs/", "" if folder == "." else f"{folder}/", text)


def row_errors(stage: Path) -> list[str]:
    """The rows that stopped a data stage, each with its file and line, and how many there are; none if one message covers all."""
    errors = [event["message"] for event in _last_attempt(stage) if event["event"] == "error"]
    return [from_here(text, stage.parent) for text in errors] if len(errors) > 2 else []


def warnings_of(stage: Path) -> Iterator[Fault]:
    """What a stage that is done warned of while it ran."""
    return (fault_of(event, stage.parent) for event in _last_attempt(stage) if event["event"] == "warning")


def _last_attempt(stage: Path) -> list[events.Event]:
    return events.last_attempt(events.read(stage / events.METRICS))


def _known(cause: Cause | None) -> Fault | None:
    """An entry of the table as a fault; None if there is none."""
    if cause is None or not cause.name:
        return None
    return Fault(cause.message, cause.keys, cause.help, cause.code, cause=cause.name)


def _engine_message(error: str, lines: Sequence[str], status: int) -> Fault:
    """The engine's message, with the recipe's key for a parameter it names."""
    text = re.sub(r" \[[^\]]+\]$", "", error.partition("\n")[0]) or next(
        (line for line in reversed(lines) if _LAST.match(line)), ""
    )
    if not text:
        known = status > 128 or status < 0
        why = f"it was ended by signal {abs(status) % 128}" if known else f"it ended with status {status}"
        return Fault(f"{why}; its last line was: {lines[-1].strip()}" if lines else why, known=False)
    match = _LAST.match(text)
    message = (match["text"] if match and match["text"] else text).strip()
    keys = tuple(parameter_keys(message))
    return Fault(f"the engine says: {message[:300]}", keys, known=False)


def span_of(stage: Stage, keys: Sequence[str]) -> Span:
    """The span of the first of these keys that the recipe sets; else the stage's own."""
    return next((span for key in keys if (span := stage.spans.get(key) or _inside(stage, key))), stage.span)


def _inside(stage: Stage, block: str) -> Span | None:
    return next((span for key, span in stage.spans.items() if key.startswith(f"{block}.")), None)


def diagnostic(fault: Fault, key: str, plan: Plan, severity: Severity = Severity.ERROR) -> Diagnostic:
    """A fault at its span in the recipe. `key`: of the job it happened in (jobs that no stage wrote belong to the first
    stage with a model).
    """
    stages = [planned.stage for planned in plan.stages]
    stage = next((stage for stage in stages if stage.key == key), None)
    stage = stage or next((stage for stage in stages if stage.start), stages[0])
    span = span_of(stage, fault.keys or _quoted(stage, fault.message))
    return Diagnostic(fault.code, f"`{key}`: {fault.message}", span, severity, help=fault.help)


def _quoted(stage: Stage, message: str) -> tuple[str, ...]:
    """Keys whose value the engine's message quotes: a path, a name."""
    values = set(re.findall(r"['\"`]([^'\"`]+)['\"`]", message))
    return tuple(key for key, value in stage.settings.values.items() if isinstance(value, str) and value in values)
