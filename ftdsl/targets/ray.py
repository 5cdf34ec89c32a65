"""The target `ray`: one Ray job whose driver runs stage after stage, each node's part as a task that holds the node's GPUs.

Source: docs.ray.io (job submission, runtime environments, placement groups), Ray 2.60.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ftdsl.engines.jobs import Job
from ftdsl.plan.plan import Plan
from ftdsl.record import frozen
from ftdsl.session import Session
from ftdsl.targets.artifacts import runtime_module
from ftdsl.targets.options import (
    ABSOLUTE,
    check_copied,
    check_devices,
    check_forms,
    check_launchers,
    check_shared,
    check_texts,
    hardware_of,
    inputs_of,
    label,
    limit_of,
    options_of,
    refuse,
    request_text,
    secrets_of,
)
from ftdsl.targets.pythons import variables
from ftdsl.targets.render import render

NAME = "ray"
ADDRESS = "http://127.0.0.1:8265"
DRIVER = "ray_driver"
FORMS = {
    "storage": ABSOLUTE,
    "address": (r"https?://\S+|auto", "the address of the dashboard, such as `http://head:8265`"),
}
WHOLE_RUN = ("address", "storage", "packages", "python", "environments")
"""Options of the one Ray job that all stages are parts of."""


@frozen
class RayTarget:
    name: str = NAME
    title: str = "Ray"

    def check(self, plan: Plan, jobs: tuple[Job, ...], session: Session) -> None:
        """A folder that all nodes see is needed, since a Ray job's own is each node's."""
        check_texts(plan, jobs, NAME, session, title=self.title)
        check_shared(plan, jobs, NAME, WHOLE_RUN, session, title=self.title)
        check_copied(plan, jobs, session, title=self.title)
        check_launchers(plan, jobs, session, title=self.title)
        check_devices(plan, jobs, session, title=self.title)
        check_forms(plan, jobs, NAME, FORMS, session, title=self.title)
        for job in jobs:
            if "storage" not in options_of(plan, job, NAME):
                text = "the nodes of a Ray cluster need a folder that all of them see"
                refuse(plan, job, session, text, help='target = ray(storage = "/shared/runs")')

    def scripts(self, plan: Plan, jobs: tuple[Job, ...]) -> Mapping[str, str]:
        """`submit.sh`, what the driver reads, and the driver."""
        first = options_of(plan, jobs[0], NAME)
        name = label(plan.recipe.name, 50)
        storage = f"{first.get('storage', '')}/{name}"
        stages = {"schema": 1, "run": storage, "stages": [_stage(plan, job) for job in jobs]}
        environment: dict[str, Any] = {"env_vars": {**variables(first, jobs), "RAY_USAGE_STATS_ENABLED": "0"}}
        if packages := first.get("packages"):
            environment["pip"] = [str(text) for text in packages]
        return {
            "submit.sh": render(
                "ray/submit.sh.j2", name=plan.recipe.name, doc=plan.recipe.doc.splitlines(), storage=storage,
                address=str(first.get("address", ADDRESS)), label=name, inputs=inputs_of(jobs),
            ),
            "ray/runtime_env.yaml": render("ray/runtime_env.yaml.j2", name=plan.recipe.name, document=environment),
            "ray/stages.json": json.dumps(stages, indent=1) + "\n",
            **runtime_module(DRIVER),
        }  # fmt: skip

    def next_step(self, folder: str) -> tuple[str, ...]:
        return ("bash", f"{folder}/submit.sh")

    def asks(self, plan: Plan, job: Job) -> str:
        options = options_of(plan, job, NAME)
        return request_text(plan, job, options, limit_of(plan, job, NAME))


def _stage(plan: Plan, job: Job) -> dict[str, Any]:
    hardware, options = hardware_of(plan, job), options_of(plan, job, NAME)
    return {
        "folder": job.folder, "nodes": job.nodes, "gpus": hardware.gpus, "cpus": int(options.get("cpus") or hardware.cpus),
        "seconds": limit_of(plan, job, NAME), "secrets": secrets_of(plan, job),
    }  # fmt: skip


TARGET = RayTarget()
