"""A hash of everything a job's result depends on: with an equal key a result is used again.

Counted are a job's documents and commands, the files it reads, what it needs, the versions of packages and of our own
runtime. Not counted is what cannot change a result: names and numbers of stages, spans of the recipe, trackers, logging,
how many checkpoints are kept, how often a stage is restarted, where its processes meet.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftdsl.engines.jobs import Job, Raw
from ftdsl.recipe.shape import files_of
from ftdsl.run.fingerprint import ABSENT, Digests, tree
from ftdsl.runtime.versions import VERSIONS
from ftdsl.session import Files

COUNTED = ("torch", "transformers", "datasets", "accelerate", "peft", "trl", "deepspeed", "bitsandbytes")
"""Packages whose versions, besides the engine's own, are part of the key of a job that runs in an engine's environment."""

TRACKERS = ("WANDB_", "MLFLOW_", "SWANLAB_", "TENSORBOARD_", "COMET_", "NEPTUNE_")
"""Beginnings of variables that only trackers read."""

RETRY = "runtime/retry.py"
MEETING = {
    **dict.fromkeys(("--max-restarts", "--max_restarts", "--master_addr", "--master_port"), 1),
    **dict.fromkeys(("--main_process_ip", "--main_process_port"), 1),
    "--standalone": 0,
}
"""Flags of launchers that change nothing of what is made, each with how many words follow it."""


class CacheKeys(dict[str, str]):
    """The key of every job; `facts`: what it was made of, by job and kind, as digests and versions that can be compared.

    packages: versions by environment and name.
    """

    def __init__(
        self, jobs: tuple[Job, ...], folder: Path, packages: Mapping[str, Mapping[str, str]], digests: Digests
    ) -> None:
        self.facts: dict[str, dict[str, dict[str, str]]] = {}
        self.digests = digests
        self._jobs, self.folder, self._packages = {job.key: job for job in jobs}, folder, packages
        self._folders = sorted(jobs, key=lambda job: -len(job.folder))
        for job in jobs:
            self.renew(job)
        digests.save()

    def renew(self, job: Job) -> bool:
        """Read a job's files again, now that it uses them; whether its key changed."""
        before = self.get(job.key)
        facts: dict[str, Any] = {
            "documents": {document.path: _counted_lines(document) for document in job.documents},
            "commands": [[*_counted_words(command.argv), command.shell] for command in job.commands],
            "code": {name: str(VERSIONS[name]) for name in job.runtime if name in VERSIONS},
            "inputs": {name: digest for path, digest in self._read(job).items() if (name := str(path))},
            "packages": self.packages(job),
            # The value of a reference to the environment is not read: secrets stay out of hashes.
            "env": {name: _text(value) for name, value in sorted(job.env.items()) if not name.startswith(TRACKERS)},
        }
        needs = {need: self[need] for need in job.needs}
        text = self._nameless(json.dumps(facts, sort_keys=True), job)
        self[job.key] = _digest(f"{text} {sorted(needs.values())}".encode())
        self.facts[job.key] = {
            "settings": {name.rpartition("/")[2]: self._short(data) for name, data in facts["documents"].items()}
            | {"commands": self._short([facts["commands"], facts["env"]])},
            "code": facts["code"],
            "inputs": {name: digest[:16] for name, digest in facts["inputs"].items()},
            "needs": {need: key[:16] for need, key in needs.items()},
            "packages": {name: version or "" for name, version in facts["packages"].items()},
        }
        return before is not None and before != self[job.key]

    def inputs(self, job: Job) -> dict[str, str]:
        """The digests of the files a job reads, by their paths relative to the recipe's folder."""
        paths = list(self._paths(job).values())
        return dict(zip((os.path.relpath(path, self.folder) for path in paths), self.digests.files(paths), strict=True))

    def packages(self, job: Job) -> dict[str, str | None]:
        """The versions that count for a job; None for a package that is not there."""
        return {name: self._packages.get(job.environment, {}).get(name) for name in _counted(job)}

    def times(self, job: Job) -> dict[str, list[int]]:
        """Size, time and inode of the files a job reads: whether they are the same before and after it has run."""
        stats = {}
        for path in self._paths(job).values():
            try:
                facts = path.stat()
                stats[str(path)] = [facts.st_size, facts.st_mtime_ns, facts.st_ino]
            except OSError:
                continue
        return stats

    def forget(self, job: Job) -> None:
        """Make the key unique: a file changed while the job was reading it."""
        self[job.key] = _digest(f"{self[job.key]} {sorted(self.times(job).items())} changed".encode())

    def _paths(self, job: Job) -> dict[str, Path]:
        """The files outside the run folder that a job reads, by name."""
        paths: dict[str, Path] = {}
        for written in (*job.inputs, *job.reads):
            path_outside = self.folder / written
            files = files_of(path_outside, self.folder, Files()) if written in job.inputs else tree(path_outside)
            for path in files:
                paths[written if path == path_outside else f"{written}: {_inside(path, path_outside)}"] = path
            if not files:
                paths[written] = path_outside
        return paths

    def _read(self, job: Job) -> dict[str, str]:
        paths = self._paths(job)
        digests = dict(zip(paths, self.digests.files(paths.values()), strict=True))
        # A name that is no file here is a model on a hub, or missing; the documents tell them apart.
        return {name: digest for name, digest in digests.items() if digest != ABSENT or name in job.inputs}

    def _nameless(self, text: str, job: Job) -> str:
        """Folders of stages by their results' keys, not their names."""
        for other in self._folders:
            text = text.replace(other.folder, "<own>" if other is job else f"<{self.get(other.key, other.key)}>")
        return text

    def _short(self, data: Any) -> str:
        """For comparison with an earlier run: stages by name, since their results are compared separately."""
        text = json.dumps(data, sort_keys=True)
        for other in self._folders:
            text = text.replace(other.folder, f"<{other.key}>")
        return _digest(text.encode())[:16]


def _inside(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _counted_lines(document: Any) -> Any:
    """A document without spans of the recipe, and without bookkeeping."""
    data = placeless(document.data)
    if isinstance(data, dict) and document.bookkeeping:
        return {key: value for key, value in data.items() if key not in document.bookkeeping}
    return data


def _counted_words(argv: Sequence[str | Raw]) -> list[str]:
    """A command without what only says how often it is restarted, and where its processes meet."""
    words = [_text(word) for word in argv]
    if RETRY in words:  # retry.py 3 --stage 10-sft -- "$PYTHON"
        at = words.index(RETRY)
        words[at : words.index("--", at) + 2] = []
    counted: list[str] = []
    skipped = 0
    for word in words:
        if skipped:
            skipped -= 1
        elif word in MEETING:
            skipped = MEETING[word]
        else:
            counted.append(word)
    return counted


def _text(word: str | Raw) -> str:
    return word.text if isinstance(word, Raw) else word


def placeless(data: Any) -> Any:
    """A document without spans of the recipe."""
    if isinstance(data, dict):
        return {str(key): placeless(value) for key, value in data.items() if key != "where"}
    return [placeless(item) for item in data] if isinstance(data, list | tuple) else data


def _counted(job: Job) -> tuple[str, ...]:
    """Packages whose versions may change results."""
    return (job.environment, *COUNTED) if job.environment else job.packages


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
