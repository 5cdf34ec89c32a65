"""What a job's result depends on, as one hash: equal keys mean that the result can be used again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from ftdsl.engines.jobs import Job, Raw
from ftdsl.run.environments import Environment
from ftdsl.session import Session
from ftdsl.targets.manifest import input_hashes

COUNTS = ("llamafactory", "torch", "transformers", "datasets", "accelerate", "peft", "trl", "deepspeed", "bitsandbytes")
"""Packages whose versions are part of the key of a job that uses the engine."""


def keys_of(
    jobs: tuple[Job, ...], files: Mapping[str, bytes], folder: Path, environment: Environment, session: Session
) -> dict[str, str]:
    """Key of every job: its documents and code, the files it reads, the packages, and the keys of what it needs."""
    found: dict[str, str] = {}
    for job in jobs:
        own = {name: _digest(content) for name, content in files.items() if name.startswith(f"{job.folder}/")}
        own |= {f"{name}.py": _digest(files[f"runtime/{name}.py"]) for name in job.runtime}
        facts = {
            "files": own,
            "inputs": input_hashes(job, folder, session),
            "needs": {need: found[need] for need in job.needs},
            "packages": {name: environment.packages.get(name) for name in COUNTS} if uses_engine(job) else {},
            # What a reference to the environment stands for is not looked at: secrets stay out of hashes.
            "env": sorted(name for name, value in job.env.items() if isinstance(value, Raw)),
        }
        found[job.key] = _digest(json.dumps(facts, sort_keys=True).encode())
    return found


def uses_engine(job: Job) -> bool:
    """Data work and scripts need none."""
    return "engine" in job.runtime or "scratch" in job.runtime


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
