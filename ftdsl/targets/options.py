"""What a recipe says of its target (`target = slurm(partition = "gpu")`), for each job: the file's options, and over them those
of the job's stage.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from ftdsl.engines.jobs import Job, Raw
from ftdsl.language.values import Secret, Term
from ftdsl.plan.plan import Plan, PlannedStage
from ftdsl.plan.world import world_of
from ftdsl.recipe.recipe import Stage
from ftdsl.record import frozen
from ftdsl.session import Session
from ftdsl.source import Span

CODE = "FT097"
"""What a target cannot do with what the recipe asks of it."""

NAME = r"[\w.,:@/+=\[\]&|*()%~ -]+"
"""Names of partitions, accounts, images and the like: no control characters, quotes or expansions."""


def named(plan: Plan) -> str:
    """The target that the recipe names; "" if none."""
    return plan.recipe.target.name if plan.recipe.target else ""


def options_of(plan: Plan, job: Job, target: str) -> Mapping[str, Any]:
    """The options of a target for one job; none of another target's."""
    planned = stage_of(plan, job)
    terms = (plan.recipe.target, planned.stage.settings.get("target") if planned else None)
    known = [term.options for term in terms if isinstance(term, Term) and term.name == target]
    return {name: value for options in known for name, value in options.items() if value is not None}


def stage_of(plan: Plan, job: Job) -> PlannedStage | None:
    """The stage of a job, also of a part of it in an environment of its own; None for jobs that several stages share."""
    part = job.kind == "scores"
    return next(
        (
            planned
            for planned in plan.stages
            if planned.key == job.key or (part and job.folder.startswith(f"{planned.folder}-"))
        ),
        None,
    )


def span_of(plan: Plan, job: Job, key: str = "target") -> Span:
    """Where the recipe sets a key for a job, else the stage, else the file."""
    planned = stage_of(plan, job)
    if planned is None:
        return plan.recipe.span
    spans = planned.stage.spans
    return spans.get(key) or spans.get(key.split(".")[0]) or spans.get("target") or planned.stage.span


ABSOLUTE = (r"(?!.*/\.\.?(/|$))(/|(/[^/\n]+)+)", "an absolute folder, such as `/work`")
"""The form of folders that nodes see."""


def check_named(plan: Plan, session: Session) -> None:
    """A recipe has one target; a stage changes only its options."""
    target = named(plan)
    for planned in plan.stages:
        own = planned.stage.settings.get("target")
        if isinstance(own, Term) and own.name != (target or own.name):
            text = f"`{planned.key}` names the target `{own.name}`, and the recipe `{target}`"
            help = f"a stage changes options only: `target = {target}(time = 1h)`"
            session.sink.error(CODE, text, planned.stage.spans.get("target", planned.stage.span), help=help)


def check_texts(plan: Plan, jobs: tuple[Job, ...], target: str, session: Session, *, title: str) -> None:
    """Every text among the options is a name: nothing that a file format or a shell would read otherwise."""
    for job in jobs:
        for name, value in options_of(plan, job, target).items():
            for text in value if isinstance(value, list | tuple) else (value,):
                if isinstance(text, str) and not re.fullmatch(NAME, text):
                    refuse(plan, job, session, f"`{name} = {text!r}` is no name that {title} takes")


def check_forms(
    plan: Plan,
    jobs: tuple[Job, ...],
    target: str,
    forms: Mapping[str, tuple[str, str]],
    session: Session,
    *,
    title: str,
) -> None:
    """Options have the form that the target's own files need. forms: of each a pattern, and what it describes."""
    for job in jobs:
        options = options_of(plan, job, target)
        for name, (pattern, what) in forms.items():
            value = options.get(name)
            if isinstance(value, str) and not re.fullmatch(pattern, value):
                refuse(plan, job, session, f"`{name} = {value!r}`: {title} takes {what}")


def check_devices(plan: Plan, jobs: tuple[Job, ...], session: Session, *, title: str) -> None:
    """A scheduler gives GPUs to a job, which are numbered from 0 there: `devices` would hide them."""
    for job in jobs:
        planned = stage_of(plan, job)
        if planned and job.accelerators and planned.stage.settings.get("hardware.devices"):
            text = f"{title} chooses the GPUs of a job, and `devices` would hide them from it"
            refuse(plan, job, session, text, key="hardware.devices", help="drop it; `count` says how many")


def check_shared(
    plan: Plan, jobs: tuple[Job, ...], target: str, names: tuple[str, ...], session: Session, *, title: str
) -> None:
    """Options of the whole run are the same for all jobs: a stage with a folder of its own would not see what others made."""
    term = plan.recipe.target
    with_stage = [job for job in jobs if stage_of(plan, job) is not None] or list(jobs)
    whole = term.options if term is not None and term.name == target else options_of(plan, with_stage[0], target)
    for name in names:
        other = next((job for job in with_stage if options_of(plan, job, target).get(name) != whole.get(name)), None)
        if other is not None:
            text = f"`{name}` is of the whole run on {title}, and a stage cannot have its own"
            refuse(plan, other, session, text, help=f"write it in the file's `target = {target}(…)`")


def check_copied(plan: Plan, jobs: tuple[Job, ...], session: Session, *, title: str) -> None:
    """A build that is copied takes along what lies in the recipe's folder, and nothing outside of it."""
    paths = {path: job for job in jobs for path in (*job.reads, *job.inputs) if _leaves(path)}
    spans = [span for planned in plan.stages for span in planned.stage.spans.values()]
    for path, job in paths.items():
        if any(path.startswith(f"{other}/") for other in paths):
            continue  # of a folder that is reported
        span = next((span for span in spans if path in span.text), None) or span_of(plan, job)
        text = f"`{path}` lies outside the recipe's folder, and only what is in it is copied to {title}"
        help = "move it below the recipe, or name an absolute path that all nodes see"
        session.sink.error(CODE, text, span, help=help)


def _leaves(path: str) -> bool:
    relative = "://" not in path and not path.startswith(("/", "~"))
    return relative and posixpath.normpath(path).split("/")[0] == ".."


def check_launchers(plan: Plan, jobs: tuple[Job, ...], session: Session, *, title: str) -> None:
    """The engine's own use of Ray starts the ranks of all nodes from one of them; here each node starts its own."""
    for job in jobs:
        planned = stage_of(plan, job)
        if planned and job.nodes > 1 and planned.stage.settings.name("launch.with") == "ray":
            text = f"Ray's ranks on several nodes of {title} need a Ray cluster that runs there already"
            refuse(plan, job, session, text, key="launch.with", help="write `launch { with = torchrun }`")


def label(text: str, most: int, *, unique: bool = True) -> str:
    """A name that schedulers take (RFC 1035): small letters, digits and hyphens, a letter first, at most so many characters.

    unique: texts that differ have labels that differ, also where they had to be changed; else only where they are too long.
    """
    made = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if made == text and made[:1].isalpha() and len(made) <= most:
        return made
    made = made if made[:1].isalpha() else f"r-{made}".strip("-")
    if not unique and len(made) <= most:
        return made
    return f"{made[: most - 7].strip('-')}-{sha256(text.encode()).hexdigest()[:6]}"


def limit_of(plan: Plan, job: Job, target: str) -> float | None:
    """Seconds that a job may take: its target's, else the recipe's budget; None where neither says."""
    return options_of(plan, job, target).get("time") or plan.recipe.budget.get("time")


def refuse(plan: Plan, job: Job, session: Session, text: str, *, key: str = "target", help: str = "") -> None:
    """An error at the recipe's line."""
    session.sink.error(CODE, text, span_of(plan, job, key), help=help)


def request_text(plan: Plan, job: Job, options: Mapping[str, Any], seconds: float | None, *first: str) -> str:
    """What a job asks for, in a line. first: words before it."""
    hardware = hardware_of(plan, job)
    cpus, memory = options.get("cpus") or hardware.cpus, options.get("memory") or hardware.memory
    gpus = f"{hardware.gpus} x {hardware.kind or 'GPU'}, " if hardware.gpus else ""
    node = f"{gpus}{cpus} core{'s' * (cpus != 1)}" + (f", {memory / 1e9:.4g} GB" if memory else "")
    nodes = f"{job.nodes} nodes, each {node}" if job.nodes > 1 else node
    limit = f"at most {_duration(seconds)}" if seconds else "no time limit of its own"
    return ", ".join((*first, nodes, limit))


def _duration(seconds: float) -> str:
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    return " ".join(part for part in (f"{hours} h" * bool(hours), f"{minutes} min" * bool(minutes)) if part)


# --- what a job needs of a node

CPUS_PER_GPU = 4
"""Cores for each GPU when the recipe names none: the loader's workers and the rank itself."""


@frozen
class Hardware:
    """What a job asks of each of its nodes. gpus: how many, and kind: of the catalogue ("" for none); cpus: cores; memory: bytes,
    0 if the recipe does not say.
    """

    gpus: int
    kind: str
    cpus: int
    memory: float


def hardware_of(plan: Plan, job: Job) -> Hardware:
    """Of the plan; a script stage has what its own `hardware` block says, since the file's is for stages that train."""
    planned = stage_of(plan, job)
    processes, gpus = math.ceil(job.processes / job.nodes), math.ceil(job.accelerators / job.nodes)
    kind = planned.world.gpu if planned else ""
    if job.kind == "shell" and planned and _has_own_hardware(planned.stage):
        world = world_of(planned.stage)
        processes, gpus, kind = world.processes_per_node, world.processes_per_node * bool(world.gpu), world.gpu
    cpus, memory = (_of_node(planned, f"hardware.{name}", whole_node=gpus > 0) for name in ("cpus", "memory"))
    return Hardware(
        gpus, kind if gpus else "", int(cpus) or max(processes, CPUS_PER_GPU * gpus), memory
    )  # fmt: skip


def _of_node(planned: PlannedStage | None, key: str, *, whole_node: bool) -> float:
    """Cores or bytes of a node; what the file says of its GPU nodes is not asked for a stage without a GPU."""
    if planned is None or not (whole_node or _is_own(planned.stage, key)):
        return 0
    return float(planned.stage.settings.get(key) or 0)


def _has_own_hardware(stage: Stage) -> bool:
    return any(_is_own(stage, key) for key in ("hardware.gpu", "hardware.count"))


def _is_own(stage: Stage, key: str) -> bool:
    origin = stage.origins.get(key)
    return origin is not None and origin.kind in ("stage", "set")


def inputs_of(jobs: tuple[Job, ...]) -> list[str]:
    """What jobs read of the recipe's folder, seen from the build: files and folders; of a pattern the folder that it is in."""
    paths = dict.fromkeys(path for job in jobs for path in (*job.inputs, *job.reads))
    inside = [_before_pattern(path) for path in paths if "://" not in path and not path.startswith(("/", "~"))]
    return sorted({f"inputs/{path}" for path in inside})


def _before_pattern(path: str) -> str:
    parts = path.split("/")
    at = next((at for at, part in enumerate(parts) if re.search(r"[*?\[]", part)), len(parts))
    return "/".join(parts[:at]) or "."


def secrets_of(plan: Plan, job: Job) -> list[str]:
    """Names of the secret variables that a job's script needs: of its stage, and what a job of several stages (tokens, models
    from scratch) has in its environment. Their values are nobody's business but the cluster's.
    """
    planned = stage_of(plan, job)
    own = (
        {value.variable for value in planned.stage.settings.values.values() if isinstance(value, Secret)}
        if planned
        else set()
    )
    values = [value for stage in plan.stages for value in stage.stage.settings.values.values()]
    every = {value.variable for value in values if isinstance(value, Secret)}
    texts = [value.text for value in job.env.values() if isinstance(value, Raw)]
    return sorted(own | {name for name in every if any(f"${{{name}:" in text for text in texts)})
