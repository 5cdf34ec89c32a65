"""The target `skypilot`: a managed job of SkyPilot's, each stage a task of its pipeline, in one file.

Source: docs.skypilot.co (task YAML; managed job pipelines), SkyPilot 0.14.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from ftdsl import catalog
from ftdsl.engines.jobs import Job
from ftdsl.plan.plan import Plan
from ftdsl.record import frozen
from ftdsl.session import Session
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
    stage_of,
)
from ftdsl.targets.pythons import variables
from ftdsl.targets.render import render

NAME = "skypilot"
FILE = "skypilot.yaml"
MOUNT = "/work"
FORMS = {"storage": (r"[a-z0-9]+://\S+", "the address of a bucket, such as `s3://my-bucket`"), "mount": ABSOLUTE}
RETRIES = 3
SAVING = 300
"""Seconds between the end of a task's time and its being killed."""

ACCELERATORS = {
    "a100": {40: "A100", 80: "A100-80GB"}, "h100": {80: "H100"}, "h200": {141: "H200"}, "a10": {24: "A10"}, "a10g": {24: "A10G"},
    "l4": {24: "L4"}, "l40s": {48: "L40S"}, "t4": {16: "T4"}, "v100": {16: "V100", 32: "V100-32GB"}, "b200": {180: "B200"},
    "rtx4090": {24: "RTX4090"}, "rtx3090": {24: "RTX3090"}, "a6000": {48: "RTXA6000"},
}  # fmt: skip
"""SkyPilot's names of GPUs: by ours, and gigabytes of memory."""


@frozen
class SkyPilotTarget:
    name: str = NAME
    title: str = "SkyPilot"

    def check(self, plan: Plan, jobs: tuple[Job, ...], session: Session) -> None:
        """Storage is needed where there are several stages or nodes; a GPU must have a name there."""
        check_texts(plan, jobs, NAME, session, title=self.title)
        check_shared(plan, jobs, NAME, ("storage", "mount"), session, title=self.title)
        check_copied(plan, jobs, session, title=self.title)
        check_launchers(plan, jobs, session, title=self.title)
        check_devices(plan, jobs, session, title=self.title)
        check_forms(plan, jobs, NAME, FORMS, session, title=self.title)
        for job in jobs:
            if "storage" not in options_of(plan, job, NAME):
                text = "each task of SkyPilot has machines of its own, and needs storage that outlives them"
                refuse(plan, job, session, text, help='target = skypilot(storage = "s3://my-bucket")')
            hardware = hardware_of(plan, job)
            if hardware.gpus and not accelerator(plan, job):
                sizes = ", ".join(f"{size} GB" for size in sorted(ACCELERATORS.get(hardware.kind, {})))
                help = f"`{hardware.kind}` has {sizes} there" if sizes else f"GPUs: {', '.join(sorted(ACCELERATORS))}"
                refuse(plan, job, session, "SkyPilot has no name for this GPU", key="hardware.gpu", help=help)

    def scripts(self, plan: Plan, jobs: tuple[Job, ...]) -> Mapping[str, str]:
        """`submit.sh`, `skypilot.yaml` and `skypilot/node.sh`."""
        documents = [{"name": _label(plan.recipe.name)}, *(task(plan, job) for job in jobs)]
        return {
            FILE: render(
                "skypilot/pipeline.yaml.j2",
                name=plan.recipe.name,
                doc=plan.recipe.doc.splitlines(),
                documents=documents,
            ),
            "skypilot/node.sh": render("skypilot/node.sh.j2", name=plan.recipe.name),
            "submit.sh": render("skypilot/submit.sh.j2", name=plan.recipe.name, inputs=inputs_of(jobs)),
        }

    def next_step(self, folder: str) -> tuple[str, ...]:
        return ("bash", f"{folder}/submit.sh")

    def asks(self, plan: Plan, job: Job) -> str:
        options = options_of(plan, job, NAME)
        first = (str(options.get("infra", "any cloud")), "spot" if options.get("spot") else "on demand")
        return request_text(plan, job, options, limit_of(plan, job, NAME), *first)


def task(plan: Plan, job: Job) -> dict[str, Any]:
    """A stage as a task."""
    options = options_of(plan, job, NAME)
    mount = str(options.get("mount", MOUNT))
    run = f"{mount}/{_label(plan.recipe.name)}"
    secrets = secrets_of(plan, job)
    document: dict[str, Any] = {
        "name": label(job.folder, 50, unique=False), "workdir": ".", "num_nodes": job.nodes,
        "resources": _resources(plan, job, options),
        "file_mounts": {mount: {"source": str(options.get("storage", "")), "mode": "MOUNT"}},
        "envs": variables(options, [job]),
    }  # fmt: skip
    if secrets:
        document["secrets"] = dict.fromkeys(secrets)  # null: taken from who launches it
    if setup := options.get("setup"):
        document["setup"] = "\n".join(_setup(setup))
    limit = limit_of(plan, job, NAME)  # SkyPilot has none of its own; a training that is asked to end may save
    timeout = f"timeout --kill-after={SAVING} {math.ceil(limit)} " if limit else ""
    document["run"] = f"{timeout}bash skypilot/node.sh {shlex.quote(job.folder)} {shlex.quote(run)}"
    return document


def _setup(packages: list[str]) -> Iterator[str]:
    """Requirements of pip's, each one word."""
    yield f'"$FT_PYTHON" -m pip install {" ".join(shlex.quote(text) for text in packages)}'


def _resources(plan: Plan, job: Job, options: Mapping[str, Any]) -> dict[str, Any]:
    hardware = hardware_of(plan, job)
    resources: dict[str, Any] = {name: str(options[name]) for name in ("infra",) if name in options}
    if hardware.gpus:
        resources["accelerators"] = {accelerator(plan, job): hardware.gpus}
    resources["cpus"] = f"{options.get('cpus') or hardware.cpus}+"
    if memory := options.get("memory") or hardware.memory:
        resources["memory"] = f"{math.ceil(memory / 2**30)}+"
    if "disk" in options:
        resources["disk_size"] = math.ceil(options["disk"] / 2**30)
    if "image" in options:
        resources["image_id"] = str(options["image"])
    if options.get("spot"):
        resources["use_spot"] = True
    resources["job_recovery"] = {"max_restarts_on_errors": int(options.get("retries", RETRIES))}
    return resources


def accelerator(plan: Plan, job: Job) -> str:
    """SkyPilot's name of a job's GPU; "" if it has none."""
    hardware = hardware_of(plan, job)
    sizes = ACCELERATORS.get(hardware.kind, {})
    planned = stage_of(plan, job)
    term = planned.stage.settings.get("hardware.gpu") if planned else None
    memory = (term.options.get("memory") if term is not None else None) or _only_memory(hardware.kind)
    if memory:
        return sizes.get(round(memory / 1e9), "")
    return sizes[max(sizes)] if sizes else ""  # the plan takes the largest, too


def _only_memory(kind: str) -> float:
    card = catalog.gpus().get(kind)
    return card.memory[0] * 1e9 if card is not None and len(card.memory) == 1 else 0.0


def _label(text: str) -> str:
    return label(text, 50)


TARGET = SkyPilotTarget()
