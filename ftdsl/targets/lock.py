"""`<recipe>.lock`, checked in beside the recipe: what a compile stood on besides the recipe itself.

Engine and package pins, hashes of the files it reads, values of `env()`, the cards that `gpu = auto` found, and
what measured runs say of a card where that decided an `auto`. A compile keeps it up to date; with `--frozen` it must be as it
is, and what is said of the environment is read from it, so that the same recipe and lock give the same bytes anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from ftdsl.engines.jobs import Job
from ftdsl.plan.measured import VARIABLE as MEASURED
from ftdsl.plan.plan import Plan
from ftdsl.record import frozen
from ftdsl.session import Session
from ftdsl.source import Span
from ftdsl.targets.manifest import all_inputs, engine_of

SCHEMA = 1


@frozen
class Lock:
    """`pins` by package; `inputs`: path as the recipe writes it -> SHA-256; `env`: variable -> value."""

    pins: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


def path_of(recipe: Path) -> Path:
    return recipe.with_name(f"{recipe.stem}.lock")


def read(path: Path, session: Session) -> Lock | None:
    """The lock as it stands; None when there is none. What cannot be read counts as different from everything."""
    try:
        found = session.files.json(path)
        return Lock(found["pins"], found["inputs"], found["env"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return Lock({"": ""})


def made(plan: Plan, jobs: tuple[Job, ...], env: Mapping[str, str], session: Session) -> Lock:
    """What this compile stands on."""
    engine = engine_of(plan)
    pins = {engine["name"]: engine["version"], "transformers": plan.recipe.versions.of("transformers")}
    return Lock(pins, all_inputs(plan, jobs, session), {**env, **plan.read})


def text_of(new: Lock, old: Lock | None, folder: Path, session: Session) -> bytes:
    """The lock's text: what this compile stands on, and what another (of another profile) stood on and is still there."""
    before = old.inputs if old else {}
    kept = {path: digest for path, digest in before.items() if session.files.exists(folder / path.partition(":")[0])}
    env = {**(old.env if old else {}), **new.env}
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "pins": dict(sorted(new.pins.items())),
        "inputs": dict(sorted({**kept, **new.inputs}.items())),
        "env": {name: text for name, text in sorted(env.items()) if text or not name.startswith(MEASURED)},
    }
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def compare(new: Lock, old: Lock | None, path: Path, span: Span, session: Session) -> None:
    """With `--frozen`: everything this compile stands on must be in the lock, and be the same."""
    if old is None:
        text = f"there is no lock `{path.as_posix()}` to hold the recipe to"
        session.sink.error("FT049", text, span, help="compile once without --frozen, and check the lock in")
        return
    for what in ("pins", "inputs", "env"):
        locked: Mapping[str, str] = getattr(old, what)
        for name, value in getattr(new, what).items():
            if locked.get(name, "" if name.startswith(MEASURED) else None) != value:
                said = "is not in the lock" if name not in locked else f"differs from the lock ({_short(locked[name])})"
                help = "if that is meant, compile without --frozen and check the new lock in"
                session.sink.error("FT049", f"`{name}` ({_short(value)}) {said}", span, help=help)


def _short(text: str) -> str:
    return text[:12] if len(text) == 64 else text[:40]
