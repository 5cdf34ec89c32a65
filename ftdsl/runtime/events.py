"""The shapes of events and results: one owner, for those who write them beside a run and for those who read them in `ftc`.

An event is one line of strict JSON: `event` (its kind), `time` (seconds since the epoch), `schema`, and the fields of its
kind. NaN and infinities are text (`"nan"`, `"inf"`, `"-inf"`), since JSON has no numbers for them. A reader takes what is
well formed and drops the rest, so that no stage can break who watches it. Standard library only.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

SCHEMA = 1
METRICS = "metrics.jsonl"
"""A stage's events, in its folder."""
RESULT = "result.json"
LONGEST = 1 << 20
"""Bytes of a line that are read: nothing of ours is longer, and a stage may write anything there."""

SAVED = 75
"""Exit status of a training that saved and ended because it was asked to: it is to be started again (EX_TEMPFAIL)."""
SAVE_REQUEST, SAVE_ANSWER = "FTC_SAVE_REQUEST", "FTC_SAVED"
"""Variables of a stage: the file that asks it to save and end, and the file with which it answers."""

STARTED_AS = "FTC_STAGE_ID"
"""The variable by which all processes of one start of a stage are known."""

STARTED_AGAIN = "== started again: "
"""Begins the line in a stage's log before the output of another start, with its time."""
_START = re.compile(rf"^(?:{STARTED_AGAIN}.*|== \S+: job \S+ on .*, start \d+)$", re.M)
"""That line, or the first of a Slurm job (templates/slurm/job.sh.j2)."""

Event = dict[str, Any]


def since_last_start(log: str) -> str:
    """The part of a stage's log that its last start has printed."""
    starts = list(_START.finditer(log))
    return log[starts[-1].end() :] if starts else log


# --- types of fields: each takes a value of a JSON document and gives it, or raises ValueError


def number(value: Any) -> float:
    """A finite number. Raises: ValueError."""
    value_measured = measure(value)
    if not math.isfinite(value_measured):
        raise ValueError("not finite")
    return value_measured


def measure(value: Any) -> float:
    """A number, or one of the texts for NaN and infinities. Raises: ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("no number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("too large") from None


def count(value: Any) -> int:
    """A whole number of things, at most 2**53. Raises: ValueError."""
    value_counted = number(value)
    if not 0 <= value_counted <= 2**53 or value_counted != int(value_counted):
        raise ValueError("no count")
    return int(value_counted)


def text(value: Any) -> str:
    """A text. Raises: ValueError."""
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def texts(value: Any) -> list[str]:
    """Several texts. Raises: ValueError."""
    if not isinstance(value, list):
        raise ValueError("no list")
    return [text(item) for item in value]


def flag(value: Any) -> bool:
    """True or false. Raises: ValueError."""
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")
    return value


def table(value: Any) -> dict[str, float]:
    """Metrics by name; those that are no numbers are left out. Raises: ValueError."""
    if not isinstance(value, dict):
        raise ValueError("no table")
    numbers = {}
    for name, item in value.items():
        try:
            numbers[str(name)] = measure(item)
        except ValueError:
            continue
    return numbers


def facts(value: Any) -> dict[str, dict[str, str]]:
    """Texts by kind and name. Raises: ValueError."""
    if not isinstance(value, dict):
        raise ValueError("no table")
    for kind in value.values():
        if not isinstance(kind, dict) or not all(isinstance(item, str) for item in kind.values()):
            raise ValueError("no table of texts")
    return value


def files(value: Any) -> dict[str, list[Any]]:
    """Files by path: size, time, inode, digest. Raises: ValueError."""
    if not isinstance(value, dict):
        raise ValueError("no table")
    for item in value.values():
        if not isinstance(item, list) or len(item) != 4 or not isinstance(item[3], str):
            raise ValueError("no table of files")
    return value


def stages(value: Any) -> list[dict[str, Any]]:
    """Stages, each with its key and folder. Raises: ValueError."""
    if not isinstance(value, list):
        raise ValueError("no list")
    for stage in value:
        if not isinstance(stage, dict) or not all(isinstance(stage.get(name), str) for name in ("key", "folder")):
            raise ValueError("no list of stages")
    return value


Field = Callable[[Any], Any]
_SENTENCE: dict[str, Field] = {"message": text, "keys": texts, "help": text, "code": text}

FIELDS: dict[str, dict[str, Field]] = {
    # of a stage, in its metrics.jsonl
    "attempt": {},
    "start": {"stage": text, "step": count, "total_steps": count, "world_size": count},
    "step": {"step": count, "total_steps": count, "epoch": number, "loss": measure, "lr": measure, "grad_norm": measure,
             "elapsed": number, "remaining": number, "tokens": count, "memory_bytes": count, "memory_total_bytes": count,
             "metrics": table},
    "eval": {"step": count, "metrics": table},
    "progress": {"done": number, "total": number, "what": text},
    "measured": {"steps": count, "step_seconds": number, "tokens": number, "longest": count, "width": count,
                 "loaded_bytes": count, "rss_bytes": count, "device": text, "threads": count, "busy_seconds": number,
                 "allocated_bytes": count, "reserved_bytes": count},
    "warning": _SENTENCE,
    "note": {"message": text},
    "guard": {"stage": text, "step": count, "anomaly": text, "action": text, "message": text},
    "phase": {"step": count, "micro": count, "accumulate": count, "rows": count},
    "error": {"message": text, "kind": text},
    "gate": {"metric": text, "op": text, "value": measure, "bound": measure, "than": text, "holds": flag, "message": text},
    "end": {"ok": flag, "error": texts, **_SENTENCE},
    # of a run, in its events.jsonl
    "run": {"id": text, "name": text, "smoke": flag, "stages": stages, "pid": count},
    "stage": {"stage": text, "status": text, "folder": text, "key": text, "facts": facts, "started": number,
              "ended": number, "message": text, "cached_from": text, "handle": text, "cards": texts,
              "made": files},
    "stop": {},
}  # fmt: skip
"""The fields of every kind of event. Nothing else is read; a field that is absent or null has no value. `attempt` begins what
one start of a stage reports; `start` is a training's, at the `step` it resumes from;
`guard` what was seen of it and done about it, also in the run's own events, with its stage; `phase` where a batch ramp changes.
"""

NEEDED = {
    "step": "step",
    "stage": "stage",
    "warning": "message",
    "note": "message",
    "guard": "message",
    "phase": "step",
    "error": "message",
    "gate": "holds",
}
"""The field that an event of that kind must have."""


# --- written


def strict(value: Any) -> Any:
    """NaN and infinities as text: JSON has no words for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {str(key): strict(inner) for key, inner in value.items()}
    return [strict(inner) for inner in value] if isinstance(value, list | tuple) else value


def made(kind: str, /, **fields: Any) -> Event:
    """An event of now. Raises: KeyError for a kind, TypeError for a field there is not."""
    if unknown := fields.keys() - FIELDS[kind].keys():
        raise TypeError(f"an event `{kind}` has no {', '.join(sorted(unknown))}")
    present = {name: value for name, value in fields.items() if value is not None}
    return {"event": kind, "time": round(time.time(), 3), "schema": SCHEMA, **strict(present)}


def line(event: Event) -> bytes:
    """Parse a line of an event file. Raises: ValueError for what is no JSON."""
    return (json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "backslashreplace")


def append(path: str | os.PathLike[str], kind: str, /, **fields: Any) -> None:
    """One event at the end of a file, in one write. Raises: OSError; of a line that does not fit on the disk nothing is left."""
    append_lines(
        os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666), line(made(kind, **fields))
    )


def append_lines(file: int, lines: bytes, *, sync: bool = False) -> None:
    """Whole lines at the end of an open file, which is closed: all of them or, where the disk is full, none. Raises: OSError."""
    try:
        size = os.fstat(file).st_size
        written = os.write(file, lines)
        if written < len(lines):
            os.ftruncate(file, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if sync:
            os.fsync(file)
    finally:
        os.close(file)


def fail(stage: str | os.PathLike[str], message: str, *keys: str, help: str = "") -> int:
    """Report why a program beside a run failed, on stderr and as the last event; gives its exit status, 1."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    append(Path(stage) / METRICS, "end", ok=False, message=message, keys=list(keys), help=help)
    return 1


# --- read


def parse(raw: bytes, malformed: list[str] | None = None) -> Event | None:
    """The event on a line, with the fields that are well formed; None for a line that is none. `malformed`: gets a sentence
    for each field that is dropped. Never raises.
    """
    try:
        content = json.loads(raw) if len(raw) <= LONGEST else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("event"), str):
        return None
    fields = FIELDS.get(content["event"])
    if fields is None or content.get("schema", SCHEMA) != SCHEMA:
        return None
    event: Event = {"event": content["event"], "schema": SCHEMA}
    for name, kind in {"time": number, **fields}.items():
        value = content.get(name)
        if value is None:
            continue
        try:
            event[name] = kind(value)
        except ValueError as error:
            if malformed is not None:
                malformed.append(f"`{name}` of an event `{event['event']}` is {str(value)[:40]!r}: {error}")
    needed = NEEDED.get(event["event"])
    return event if needed is None or needed in event else None


LARGEST_EVENTS, LARGEST_RESULT = 1 << 29, 1 << 26
"""Bytes. A larger file is none that a stage of ours has written."""


def _content(path: str | os.PathLike[str], limit: int) -> bytes:
    """Raises: OSError, also for a file that is larger than that."""
    with open(path, "rb") as handle:
        if os.fstat(handle.fileno()).st_size > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return handle.read(limit)


def read(path: str | os.PathLike[str]) -> list[Event]:
    """All whole events of a file; none when it cannot be read."""
    try:
        whole = _content(path, LARGEST_EVENTS).rpartition(b"\n")[0]
    except OSError:
        return []
    return [event for raw in whole.split(b"\n") if (event := parse(raw)) is not None]


def last_attempt(events: list[Event]) -> list[Event]:
    """Events of the last start of a stage."""
    begins = [at for at, event in enumerate(events) if event["event"] == "attempt"]
    return events[begins[-1] :] if begins else events


# --- results


def save_result(stage: str | os.PathLike[str], result: Mapping[str, Any]) -> None:
    """`result.json` of a stage: beside, on disk, and then renamed.

    kind: adapter, model, dataset, metrics or files; path: relative to the run folder; metrics: by our names; samples: at
    most 20 of `prompt`, `label`, `predict`.
    """
    path = Path(stage) / RESULT
    beside = path.with_name(f".{RESULT}")
    with open(beside, "w", encoding="utf-8", errors="backslashreplace") as handle:
        json.dump(strict(dict(result)), handle, indent=2, ensure_ascii=False, allow_nan=False)
        handle.write("\n")
        handle.flush()
        os.fsync(handle.fileno())
    beside.replace(path)


def read_result(stage: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The result a stage left, its metrics as numbers; None when there is none or it cannot be read. Never raises."""
    try:
        content = json.loads(_content(Path(stage) / RESULT, LARGEST_RESULT))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    try:
        metrics = table(content.get("metrics"))
    except ValueError:
        metrics = {}
    rows = content.get("samples")
    samples = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    kind, path = str(content.get("kind", "files")), str(content.get("path", ""))
    return {**content, "kind": kind, "path": path, "metrics": metrics, "samples": samples}


# --- processes of a stage


def processes_of(start: str) -> Iterator[int]:
    """The processes of a start of a stage, in whatever group or session they are; none on a system without /proc."""
    mark = f"{STARTED_AS}={start}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)
        except OSError:  # it ended, or is another user's
            continue
