"""Rows of a stage as its model sees them: the engine's own program, in the engine's environment, beside what earlier stages made.

It works in a temporary folder laid out like a run's, with links to results that a run has made.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ftdsl.engines import registry
from ftdsl.engines.jobs import Job, Raw
from ftdsl.observe.status import StageStatus
from ftdsl.run import faults, store
from ftdsl.run.environments import Environment
from ftdsl.runtime import events
from ftdsl.session import LARGE, Session, read_json
from ftdsl.storage import write_file
from ftdsl.targets.compiled import Compiled

TIMEOUT = 600
"""Seconds in which a few rows must be tokenised."""


@dataclass(frozen=True)
class Shown:
    """data: what the engine's program wrote (runtime/show.py); fault: why there is nothing, at its place in the recipe."""

    data: Mapping[str, Any] = field(default_factory=dict)
    fault: faults.Fault | None = None


def readers(compiled: Compiled) -> list[Job]:
    """The jobs whose rows can be shown: those of stages that tokenise, by an engine that can show them."""
    return [job for job in compiled.jobs if _program(job) and _config(job) is not None]


def _program(job: Job) -> tuple[str, ...]:
    engine = registry.get(job.environment) if job.environment else None
    return engine.show if engine and job.kind not in ("merge", "quantize", "scratch") else ()


def _config(job: Job) -> Mapping[str, Any] | None:
    """The first of the engine's documents that names rows."""
    documents = (document.data for document in job.documents if document.kind == "yaml")
    return next((data for data in documents if _names_rows(data)), None)


def _names_rows(data: Mapping[str, Any]) -> bool:
    """By name in a file of data sets (LLaMA-Factory), or in a block of sources (ftdsl's own runtime)."""
    block = data.get("data")
    return bool(data.get("dataset") or data.get("eval_dataset") or (isinstance(block, dict) and block.get("train")))


def missing(job: Job, compiled: Compiled, statuses: Mapping[str, StageStatus]) -> list[Job]:
    """Jobs whose result the rows or their tokenizer are, and that have not been carried out."""
    return [need for need in _sources(job, compiled) if statuses[need.key].runs]


def _sources(job: Job, compiled: Compiled) -> Iterator[Job]:
    """The jobs that the rows and the tokenizer come from."""
    config = _config(job) or {}
    entries = [document.data for document in job.documents if document.path.endswith("dataset_info.json")]
    text = json.dumps([config.get("model_name_or_path"), config.get("data"), entries], ensure_ascii=False)
    for other in compiled.jobs:
        if other.key in job.needs and (other.folder in text or (other.result and other.result in text)):
            yield other


def show(
    job: Job,
    compiled: Compiled,
    environment: Environment,
    statuses: Mapping[str, StageStatus],
    session: Session,
    rows: int,
) -> Shown:
    """The first rows. Raises: OSError when the folder cannot be written."""
    with TemporaryDirectory(prefix="ftc-show-") as name:
        folder = Path(name)
        store.write_build(folder, compiled.files, compiled.folder, {job.folder})
        for source in _sources(job, compiled):
            made = Path(statuses[source.key].folder)
            store.link(folder, source.folder, made)
        spec = next(document.path for document in job.documents if document.path.endswith("/stage.json"))
        target, log = folder / "rows.json", folder / job.folder / "log.txt"
        command = [str(environment.python.absolute()), *_program(job), spec, "--rows", str(rows), "--to", str(target)]
        try:
            done = subprocess.run(
                command, cwd=folder, env=_env(job, session.env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, timeout=TIMEOUT, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            minutes = TIMEOUT // 60
            return Shown(fault=faults.Fault(f"the rows were not tokenised within {minutes} minutes", ("data",)))
        write_file(log, done.stdout)
        status = done.returncode
        if status == 0 and target.is_file():
            data: dict[str, Any] = read_json(target, LARGE)
            return Shown(data)
        seen = events.read(folder / job.folder / events.METRICS)
        end = next((event for event in reversed(seen) if event["event"] == "end"), {})
        return Shown(fault=faults.read(end, log, status))


def _env(job: Job, env: Mapping[str, str]) -> dict[str, str]:
    """What the stage's script exports. A reference becomes the variable's value, as in the script."""
    exported = dict(env)
    for name, value in job.env.items():
        if isinstance(value, Raw):
            reference = re.search(r"\$\{(\w+)", value.text)
            exported[name] = env.get(reference[1], "") if reference else ""
        else:
            exported[name] = value
    return exported | {"CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
