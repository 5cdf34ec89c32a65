"""What a run folder holds, gathered for a report. Reads; starts nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftdsl.credentials import masked
from ftdsl.diagnose.examined import Examined, Training, examine
from ftdsl.diagnose.read import UnreadableError, content_of
from ftdsl.observe.metrics import Sample, read_result
from ftdsl.observe.progress import RunProgress, StageProgress
from ftdsl.observe.text import gib
from ftdsl.plan.plan import Plan
from ftdsl.run import events as run_events
from ftdsl.run.lengths import read_report
from ftdsl.run.measured import compared
from ftdsl.run.recipe_of import recipe_of
from ftdsl.run.remedies import Remedies, remedies_of
from ftdsl.runtime import events
from ftdsl.session import Session, read_json
from ftdsl.targets.manifest import NAME as MANIFEST

TEXT = 100_000
"""Bytes of a compiled file that are shown."""


@dataclass(frozen=True)
class Gate:
    """A bound that was checked."""

    message: str
    holds: bool


@dataclass(frozen=True)
class StageReport:
    """One stage: how it went, what it logged and made. planned: rows of `what`, `planned`, `measured`."""

    progress: StageProgress
    batch: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    training: Training | None = None
    planned: tuple[tuple[str, str, str], ...] = ()
    gates: tuple[Gate, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> Mapping[str, float]:
        return self.progress.result.metrics if self.progress.result else {}

    @property
    def samples(self) -> tuple[Sample, ...]:
        return self.progress.result.samples if self.progress.result else ()


@dataclass(frozen=True)
class RunReport:
    """A run. lineage: what made it, as `what` and `value`; files: compiled ones by name."""

    run: RunProgress
    stages: tuple[StageReport, ...]
    examined: Examined | None
    remedies: Remedies
    lineage: tuple[tuple[str, str], ...]
    files: Mapping[str, str]

    @property
    def label(self) -> str:
        return f"{self.run.name} {self.run.id}"

    def seconds(self) -> float:
        """From the first stage's start to the last one's end."""
        starts = [stage.progress.started for stage in self.stages if stage.progress.started]
        ends = [stage.progress.ended for stage in self.stages if stage.progress.ended]
        return max(ends) - min(starts) if starts and ends else 0.0


class NoRunError(Exception):
    """A path that is no run of ours: a sentence."""


def gather(folder: Path, plan: Plan | None) -> RunReport:
    """Everything about a run. plan: of its recipe, where that is still there. Raises: NoRunError, OSError."""
    log = run_events.read(folder)
    if not log:
        raise NoRunError(f"{folder.as_posix()}: this is no run folder ({run_events.NAME} is not in it)")
    follower = run_events.Follower(folder)
    follower.update()
    run = follower.progress
    manifest = _json(folder / MANIFEST)
    try:
        examined: Examined | None = examine(folder)
    except UnreadableError:
        examined = None
    trainings = {training.key: training for training in examined.trainings} if examined else {}
    origin = recipe_of(folder)
    remedies = remedies_of(examined, origin.recipe, plan) if examined and origin and plan else Remedies()
    jobs = {str(job.get("key")): job for job in _tables(manifest.get("jobs"))}
    written = {str(stage.get("key")): stage for stage in _tables(manifest.get("stages"))}
    stages = []
    for stage in run.stages:
        values = written.get(stage.key, {}).get("values")
        settings = {key: str(value.get("value")) for key, value in values.items()} if isinstance(values, dict) else {}
        own = folder / stage.folder
        if stage.result is None:
            stage.result = read_result(own)
        stages.append(
            StageReport(
                stage,
                str(written.get(stage.key, {}).get("batch") or ""),
                settings,
                tuple(map(str, jobs.get(stage.key, {}).get("needs") or ())),
                trainings.get(stage.folder),
                tuple(_planned(stage, own, plan)),
                tuple(_gates(own)),
                (read_report(own) or {}) if stage.kind == "data" else {},
            )
        )
    return RunReport(
        run, tuple(stages), examined, remedies, tuple(_lineage(folder, manifest)), _files(folder, manifest)
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        document = read_json(path)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _tables(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _planned(stage: StageProgress, folder: Path, plan: Plan | None) -> Iterator[tuple[str, str, str]]:
    """What was planned beside what was measured."""
    from ftdsl.estimate.architecture import NotModelledError
    from ftdsl.plan.forecast import forecasts

    planned = (
        next((planned_stage for planned_stage in plan.stages if planned_stage.key == stage.key), None) if plan else None
    )
    if planned is None or plan is None or planned.batch is None:
        return
    try:
        known = forecasts(plan, Session()).get(stage.key)
        comparison = compared(planned, plan, folder, known.here) if known else None
    except (NotModelledError, OSError):
        return
    if comparison is not None:
        yield "memory", gib(comparison.planned_memory), gib(comparison.memory)
        yield "step", f"{comparison.planned_step:.3g} s", f"{comparison.step:.3g} s"


def _gates(folder: Path) -> Iterator[Gate]:
    for event in events.last_attempt(events.read(folder / events.METRICS)):
        if event["event"] == "gate":
            yield Gate(str(event.get("message", "")), bool(event["holds"]))


def _lineage(folder: Path, manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What exactly made this: recipe, engine, commit, data and packages."""
    origin = recipe_of(folder)
    if "recipe" in manifest:
        yield "recipe", str(manifest["recipe"])
    engine = manifest.get("engine")
    if isinstance(engine, dict):
        yield "engine", " ".join(str(engine[key]) for key in ("name", "version") if key in engine)
    if origin is not None and (commit := _commit(origin.recipe)):
        yield "commit now", commit
    inputs = manifest.get("inputs")
    for name, digest in inputs.items() if isinstance(inputs, dict) else ():
        yield f"data {name}", f"sha256 {digest}"
    packages: dict[str, str] = {}
    for event in run_events.read(folder):
        facts = event.get("facts")
        own = facts.get("packages") if isinstance(facts, dict) else None
        packages |= {str(key): str(value) for key, value in own.items()} if isinstance(own, dict) else {}
    if packages:
        yield "packages", ", ".join(f"{name} {version}" for name, version in sorted(packages.items()))


def _commit(recipe: Path) -> str:
    """The commit that is checked out where the recipe is; "" outside of a repository."""
    for folder in recipe.resolve().parents:
        git = folder / ".git"
        if git.exists():
            try:
                head = content_of(git / "HEAD").decode().strip()
                if head.startswith("ref: "):
                    return content_of(git / head.removeprefix("ref: ")).decode().strip()[:40]
                return head[:40]
            except (OSError, ValueError):
                return ""
    return ""


def _files(folder: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """The compiled files as they are in the run folder; secrets are none of them, and are masked all the same."""
    names = manifest.get("artifacts")
    files = {}
    for name in sorted(names) if isinstance(names, dict) else ():
        path = folder / str(name)
        if ".." in Path(name).parts or not path.resolve().is_relative_to(folder.resolve()):
            continue
        try:
            files[str(name)] = masked(content_of(path, TEXT).decode("utf-8", "replace"))
        except OSError:
            continue
    return files


def differences(reports: list[RunReport]) -> list[tuple[str, list[str]]]:
    """Settings that are not the same in all runs: `sft.optim.lr` and its value in each (`-` where it is not set)."""
    tables = [
        {f"{stage.progress.key}.{key}": value for stage in report.stages for key, value in stage.settings.items()}
        | {what: value for what, value in report.lineage if what.startswith(("data ", "engine"))}
        for report in reports
    ]
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = [(key, [table.get(key, "-") for table in tables]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]
