"""What a job's result depends on, as one hash: equal keys mean that the result can be used again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftdsl.engines.jobs import Job, Raw
from ftdsl.session import Session
from ftdsl.targets.manifest import input_hashes

COUNTED = ("torch", "transformers", "datasets", "accelerate", "peft", "trl", "deepspeed", "bitsandbytes")
"""Packages whose versions, besides the engine's own, are part of the key of a job that runs in an engine's environment."""


class CacheKeys(dict[str, str]):
    """The key of every job; `facts`: what it was made of, by job and kind, as digests and versions that can be compared."""

    def __init__(self) -> None:
        self.facts: dict[str, dict[str, dict[str, str]]] = {}


def keys_of(
    jobs: tuple[Job, ...],
    files: Mapping[str, bytes],
    folder: Path,
    packages: Mapping[str, Mapping[str, str]],
    session: Session,
) -> CacheKeys:
    """Key of every job: its documents and code, the files it reads, the packages, and the keys of what it needs.

    packages: versions by environment and name. Comments, places in the recipe and the numbers of folders do not count: a
    line or a stage put in above is no reason to train again.
    """
    found = CacheKeys()
    folders = sorted(jobs, key=lambda job: -len(job.folder))
    for job in jobs:
        facts: dict[str, Any] = {
            "documents": {document.path: placeless(document.data) for document in job.documents},
            "commands": [[*map(_said, command.argv), command.shell] for command in job.commands],
            "code": {name: _code(name, files) for name in job.runtime},
            "inputs": input_hashes(job, folder, session),
            "needs": {need: found[need] for need in job.needs},
            "packages": {name: packages.get(job.environment, {}).get(name) for name in _counted(job)},
            # What a reference to the environment stands for is not looked at: secrets stay out of hashes.
            "env": {name: _said(value) for name, value in sorted(job.env.items())},
        }
        text = _unnumbered(json.dumps(facts, sort_keys=True), folders)
        found[job.key] = _digest(text.encode())
        found.facts[job.key] = {
            "settings": {name.rpartition("/")[2]: _short(data, folders) for name, data in facts["documents"].items()}
            | {"commands": _short([facts["commands"], facts["env"]], folders)},
            "code": {name: digest[:16] for name, digest in facts["code"].items()},
            "inputs": {name: digest[:16] for name, digest in facts["inputs"].items()},
            "needs": {need: key[:16] for need, key in facts["needs"].items()},
            "packages": {name: version or "" for name, version in facts["packages"].items()},
        }
    return found


def _unnumbered(text: str, folders: list[Job]) -> str:
    for other in folders:
        text = text.replace(other.folder, f"<{other.key}>")
    return text


def _short(data: Any, folders: list[Job]) -> str:
    return _digest(_unnumbered(json.dumps(data, sort_keys=True), folders).encode())[:16]


def _said(word: str | Raw) -> str:
    return word.text if isinstance(word, Raw) else word


def placeless(data: Any) -> Any:
    """A document without places in the recipe."""
    if isinstance(data, dict):
        return {str(key): placeless(value) for key, value in data.items() if key != "where"}
    return [placeless(item) for item in data] if isinstance(data, list | tuple) else data


def _counted(job: Job) -> tuple[str, ...]:
    """Packages whose versions may change what comes out."""
    return (job.environment, *COUNTED) if job.environment else job.packages


def _code(name: str, files: Mapping[str, bytes]) -> str:
    """Of a module, or of all files of a package."""
    own = {
        path: content for path, content in files.items() if path.startswith((f"runtime/{name}.py", f"runtime/{name}/"))
    }
    return _digest(b"".join(path.encode() + b"\0" + own[path] for path in sorted(own)))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
