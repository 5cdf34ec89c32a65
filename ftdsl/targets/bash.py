"""The target `bash`: `run.sh` runs all jobs in order, on this machine or on each of several nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ftdsl.engines.jobs import Job
from ftdsl.plan.plan import Plan
from ftdsl.record import frozen
from ftdsl.session import Session
from ftdsl.targets.pythons import for_template
from ftdsl.targets.render import render


@frozen
class BashTarget:
    name: str = "bash"
    title: str = "bash scripts"

    def check(self, plan: Plan, jobs: tuple[Job, ...], session: Session) -> None:
        """Every job is a bash script already."""

    def scripts(self, plan: Plan, jobs: tuple[Job, ...]) -> Mapping[str, str]:
        """`run.sh`."""
        return {"run.sh": _run_text(plan, jobs)}

    def next_step(self, folder: str) -> tuple[str, ...]:
        return ("bash", f"{folder}/run.sh")


def _run_text(plan: Plan, jobs: tuple[Job, ...]) -> str:
    recipe = plan.recipe
    stages: list[dict[str, Any]] = [{"folder": job.folder, "title": job.title, "nodes": str(job.nodes)} for job in jobs]
    most = max(jobs, key=lambda job: job.nodes)
    return render(
        "bash/run-nodes.sh.j2" if most.nodes > 1 else "bash/run.sh.j2",
        name=recipe.name,
        doc=list(_doc(plan)),
        default_run=f"runs/{recipe.name}/by-hand",
        jobs=stages,
        nodes=most.nodes,
        by_hand=most.by_hand,
        **for_template(plan, jobs),
    )


def _doc(plan: Plan) -> Iterator[str]:
    yield from plan.recipe.doc.splitlines()


TARGET = BashTarget()
