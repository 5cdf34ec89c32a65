"""Measurements kept: a line for each stage that has trained, in the user's state folder (`ftdsl.plan.measured` reads it)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from ftdsl.estimate.architecture import NotModelledError
from ftdsl.estimate.setup import Setup
from ftdsl.observe.status import Compared
from ftdsl.observe.text import gib
from ftdsl.plan.layout_search import setup_as_planned
from ftdsl.plan.measured import KINDS, Here, device_of, expected, file_name, folder_of, setup_as_json
from ftdsl.plan.plan import Plan, PlannedStage
from ftdsl.record import replace
from ftdsl.runtime import events
from ftdsl.session import Session
from ftdsl.storage import write_file

MOST = 200
"""Lines that are kept: machines change, and so do the files a plan reads each time."""


def seen_in(stage: Path) -> dict[str, Any]:
    """What a stage measured, from its metrics.jsonl; nothing when it did not train, or not to its end."""
    attempt = events.last_attempt(events.read(stage / events.METRICS))
    measurements = [event for event in attempt if event["event"] == "measured"]
    whole = measurements and all(measurements[-1].get(name, 0) > 0 for name in ("step_seconds", "rss_bytes", "longest"))
    return measurements[-1] if whole else {}


def memory_of(seen: Mapping[str, Any]) -> float:
    """Peak bytes: of the GPU's memory by torch's allocator, else of the process."""
    return float(seen.get("allocated_bytes") or seen["rss_bytes"])


def step_of(seen: Mapping[str, Any]) -> float:
    """Seconds of a step; on a CPU those in which it computed, as others share the machine."""
    wall = float(seen["step_seconds"])
    return min(wall, seen.get("busy_seconds") or wall)


def at_its_lengths(planned: PlannedStage, plan: Plan, seen: Mapping[str, Any]) -> tuple[Setup, Setup]:
    """The set-up of a stage with the rows that came: for memory the largest micro-batch, for time the usual one.
    Raises: NotModelledError.
    """
    setup = setup_as_planned(planned, plan.recipe)
    batch_rows = setup.micro_batch
    longest = replace(setup, seq_len=max(1, round(int(seen["longest"]) / batch_rows)), seq_kind="exact")
    usual = float(seen.get("tokens") or 0) / (batch_rows * setup.accumulate)
    return longest, replace(longest, seq_len=max(1, round(usual))) if usual else longest


def compared(planned: PlannedStage, plan: Plan, stage: Path, known: Here) -> Compared | None:
    """What a stage measured beside what the plan has for rows as long as those that came. None where one of them is not there."""
    seen = seen_in(stage)
    if not seen:
        return None
    try:
        longest, usual = at_its_lengths(planned, plan, seen)
        memory, step = expected(longest, usual, known)
    except NotModelledError:
        return None
    limit = int(planned.stage.settings.get("max_len") or 0)
    return Compared(memory_of(seen), memory, step_of(seen), step, float(seen["step_seconds"]), longest.seq_len, limit)


def keep(key: str, plan: Plan, stage: Path, session: Session) -> str:
    """Add what a stage measured, if it trained and its set-up can be estimated: what was kept, in words. Raises: OSError."""
    planned = next((planned for planned in plan.stages if planned.key == key), None)
    folder, seen = folder_of(session.env), seen_in(stage)
    if planned is None or folder is None or not seen or plan.recipe.smoke or planned.stage.kind not in KINDS:
        return ""
    try:
        setup, usual = at_its_lengths(planned, plan, seen)
    except NotModelledError:
        return ""
    row = {
        "kind": planned.stage.kind,
        "device": device_of(seen, session),
        "threads": seen.get("threads"),
        "recipe": plan.recipe.name,
        "stage": planned.key,
        "memory_bytes": memory_of(seen),
        "step_seconds": step_of(seen),
        "steps": seen.get("steps"),
        "usual_len": usual.seq_len,
        "setup": setup_as_json(setup),
    }
    versions = plan.recipe.versions
    add_line(folder / file_name(versions.engine, versions.of()), json.dumps(row, ensure_ascii=False))
    return f"measured {gib(memory_of(seen))} and {step_of(seen):.3g} s a step, kept for later plans"


def add_line(path: Path, line: str) -> None:
    """Beside, then renamed; one process at a time, so that none forgets what another has added."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / ".lock"):
        try:
            before = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            before = []
        write_file(path, "".join(f"{text}\n" for text in [*before, line][-MOST:]).encode())
