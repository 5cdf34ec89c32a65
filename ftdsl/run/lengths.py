"""Rows that a stage would cut: the lengths in the reports of data stages compared with `max_len`.

A report is used by the run that wrote it, and by a later check where it still speaks of the same data.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.diagnostics import Diagnostic, Severity
from ftdsl.engines.jobs import Job
from ftdsl.language.values import StageRef, Term
from ftdsl.plan.plan import Plan
from ftdsl.recipe.recipe import Stage
from ftdsl.run.cache_keys import placeless
from ftdsl.session import LARGE, read_json

FEW = 0.005
"""Below this share of rows there is no warning."""
STEP = 256
RUNS = 5
"""Newest runs in which a check looks for a report."""


def cut(plan: Plan, data: str, report: dict[str, Any]) -> Iterator[Diagnostic]:
    """FT505 for every stage that reads a data stage (by key) and cuts its rows."""
    lengths = report.get("tokens") or {}
    table = lengths.get("quantiles")
    if not table or not lengths.get("exact"):
        return
    for planned in plan.stages:
        stage = planned.stage
        reads = any(isinstance(item, StageRef) and item.key == data for item in stage.settings.items("data"))
        longest = stage.settings.get("max_len")
        if reads and stage.kind in TRAINING and isinstance(longest, int) and _same(plan, stage, str(lengths.get("by"))):
            share = 1 - bisect_right(table, longest) / len(table)
            if share >= FEW and not _packed(stage):
                yield _cut_warning(stage, data, share, longest, table)


def _same(plan: Plan, stage: Stage, by: str) -> bool:
    """Whether the lengths were counted with the stage's own tokenizer."""
    base = plan.origin(stage)
    name = str(base.options.get("id") or base.options.get("path") or "") if isinstance(base, Term) else ""
    return bool(name) and by in (name, f"inputs/{name}")


def _packed(stage: Stage) -> bool:
    """Pretraining joins rows and cuts the whole into pieces: nothing is lost."""
    return stage.kind == "pretrain" and stage.settings.get("packing") is not False


def _cut_warning(stage: Stage, data: str, share: float, longest: int, table: list[int]) -> Diagnostic:
    text = f"{100 * share:.1f}% of the rows of `{data}` are longer than max_len ({longest}) and will be cut"
    enough = -(-table[int(0.99 * (len(table) - 1))] // STEP) * STEP
    more = f"max_len = {enough} holds 99% of them" if enough > longest else f"max_len = {table[-1]} holds all of them"
    help = f"{more} (more memory); `drop = [too_long]` in `{data}` leaves them out"
    span = stage.spans.get("max_len") or stage.spans.get("data") or stage.span
    return Diagnostic("FT505", text, span, Severity.WARNING, help=help)


def known(plan: Plan, jobs: tuple[Job, ...], home: Path) -> list[Diagnostic]:
    """Warnings from finished data stages in a recipe's runs about the data it reads now."""
    runs = sorted((path for path in home.iterdir() if path.name[:1].isdigit()), reverse=True)[:RUNS]
    diagnostics: list[Diagnostic] = []
    for job in jobs:
        if job.kind == "data":
            report = next(
                (report for run in runs if (report := _report(run / job.folder, job, plan.recipe.folder))), None
            )
            diagnostics += cut(plan, job.key, report) if report else ()
    return diagnostics


def read_report(stage: Path) -> dict[str, Any] | None:
    """The report a data stage left in its folder."""
    try:
        report = read_json(stage / "report.json", LARGE)
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None


def _report(stage: Path, job: Job, recipe: Path) -> dict[str, Any] | None:
    """A report that speaks of the same rows: the same document, and files not touched since."""
    try:
        spec = read_json(stage / "data.json", LARGE)
        written = (stage / "report.json").stat().st_mtime
        report = read_report(stage)
        if report is None or placeless(spec) != placeless(json.loads(json.dumps(job.documents[0].data))):
            return None
        for name, size in report["sizes"].items():
            if name.startswith(("inputs/", "/")):  # others are rows of another data stage, or of a hub
                facts = (recipe / name.removeprefix("inputs/")).stat()
                if facts.st_size != size or facts.st_mtime > written:
                    return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return report
