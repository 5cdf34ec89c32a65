"""The manifest of a build: inputs, artifacts, choices, and who set every value."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ftdsl.engines.jobs import Job
from ftdsl.plan.plan import Plan, PlannedStage
from ftdsl.recipe.settings import shown
from ftdsl.recipe.shape import files_of
from ftdsl.session import Session

SCHEMA = 1
NAME = "manifest.json"


def manifest(plan: Plan, jobs: tuple[Job, ...], files: dict[str, bytes], session: Session) -> bytes:
    """The manifest as JSON, without times, users, hosts or absolute paths."""
    recipe = plan.recipe
    document = {
        "schema": SCHEMA,
        "name": recipe.name,
        "recipe": Path(recipe.span.source.name).name,
        "engine": engine_of(plan),
        "inputs": all_inputs(plan, jobs, session),
        "artifacts": {path: hashlib.sha256(content).hexdigest() for path, content in files.items()},
        "jobs": [_job(job) for job in jobs],
        "stages": [_stage(planned, plan) for planned in plan.stages],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def engine_of(plan: Plan) -> dict[str, str]:
    """The engine's name, and the version that the recipe is compiled for."""
    return {"name": plan.recipe.engine.name, "version": plan.recipe.versions.of()}


def all_inputs(plan: Plan, jobs: tuple[Job, ...], session: Session) -> dict[str, str]:
    """Every file outside the run folder that the jobs read, with its SHA-256."""
    return {path: digest for job in jobs for path, digest in input_hashes(job, plan.recipe.folder, session).items()}


def input_hashes(job: Job, folder: Path, session: Session) -> dict[str, str]:
    """SHA-256 of every file outside the run folder that a job reads; "absent" for a file that does not exist."""
    hashes: dict[str, str] = {}
    for written in job.inputs:
        files = files_of(folder / written, folder, session.files)
        for path in files:
            name = written if path == folder / written else f"{written}: {path.name}"
            hashes[name] = _digest(path, session)
        if not files:
            hashes[written] = "absent"
    return hashes


def _digest(path: Path, session: Session) -> str:
    try:
        return session.files.sha256(path)
    except OSError:
        return "absent"


def _job(job: Job) -> dict[str, Any]:
    return {
        "key": job.key,
        "folder": job.folder,
        "kind": job.kind,
        "title": job.title,
        "needs": list(job.needs),
        "processes": job.processes,
        "result": job.result,
        "inputs": list(job.inputs),
        "reads": list(job.reads),
        "makes": list(job.made_paths),
    }


def _stage(planned: PlannedStage, plan: Plan) -> dict[str, Any]:
    return {
        "key": planned.key,
        "where": plan.recipe.location(planned.stage.span),
        "batch": "; ".join(planned.equations) or None,
        "values": values_of(planned, plan),
    }


def values_of(planned: PlannedStage, plan: Plan) -> dict[str, dict[str, Any]]:
    """Every value of a stage in recipe syntax, and who set it."""
    stage = planned.stage
    return {
        key: {"value": shown(stage.settings.get(key)), "origin": plan.recipe.location(str(origin))}
        for key, origin in sorted(stage.origins.items())
    }
