"""`<recipe>.lock`, checked in beside the recipe: what a compile depends on besides the recipe itself.

It has engine and package pins, hashes of the files that are read, values of `env()`, the GPUs that `gpu = auto` detected, and
measurements of a GPU where they decided an `auto`. A compile updates it. With `--frozen` it must fit, and the environment is
read from it, so that the same recipe and lock give the same bytes on every machine.
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
    """pins: version by package; inputs: path in the recipe -> SHA-256; env: variable -> value."""

    pins: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


def path_of(recipe: Path) -> Path:
    return recipe.with_name(f"{recipe.stem}.lock")


def read(path: Path, session: Session) -> Lock | None:
    """The lock file; None if there is none. A file that cannot be read differs from every lock."""
    try:
        document = session.files.json(path)
        return Lock(document["pins"], document["inputs"], document["env"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return Lock({"": ""})


def lock_of(plan: Plan, jobs: tuple[Job, ...], env: Mapping[str, str], session: Session) -> Lock:
    """What this compile depends on."""
    engine = engine_of(plan)
    pins = {engine["name"]: engine["version"], "transformers": plan.recipe.versions.of("transformers")}
    return Lock(pins, all_inputs(plan, jobs, session), {**env, **plan.read})


def text_of(new: Lock, old: Lock | None, folder: Path, session: Session) -> bytes:
    """The lock's text: what this compile depends on, and existing files that others (of another profile) depend on."""
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
    """With `--frozen`: everything this compile depends on must be in the lock, with the same value."""
    if old is None:
        text = f"`--frozen` needs the lock `{path.as_posix()}`, which does not exist"
        session.sink.error("FT049", text, span, help="compile once without --frozen, and commit the lock")
        return
    for what in ("pins", "inputs", "env"):
        locked: Mapping[str, str] = getattr(old, what)
        for name, value in getattr(new, what).items():
            if locked.get(name, "" if name.startswith(MEASURED) else None) != value:
                difference = (
                    "is not in the lock" if name not in locked else f"differs from the lock ({_short(locked[name])})"
                )
                help = "if this is intended, compile without --frozen and commit the new lock"
                session.sink.error("FT049", f"`{name}` ({_short(value)}) {difference}", span, help=help)


def _short(text: str) -> str:
    return text[:12] if len(text) == 64 else text[:40]
