"""Benchmarks: `tasks` of an `eval` stage, by lm-evaluation-harness in an environment of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from ftdsl.engines.jobs import Command, Document, Job
from ftdsl.engines.shared import assemble
from ftdsl.engines.shared.run_paths import seen_from_run
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.engines.tools.tool import LM_EVAL, as_one_process
from ftdsl.language.values import Term
from ftdsl.recipe.rules.evaluation import task_file
from ftdsl.record import replace

PROGRAM = "runtime/benchmarks.py"
MODULES = ("__init__", "benchmarks", "events", "report")
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "pure_bf16": "bfloat16", "fp16": "float16"}


def wants(context: StageContext) -> bool:
    """Whether the stage has benchmarks."""
    return context.stage.kind == "eval" and bool(context.stage.settings.items("tasks"))


def job(context: StageContext, *, folder: str = "", key: str = "", title: str = "") -> Job:
    """The job that runs them. folder, key, title: where it is not the stage's own job.

    lm-eval is one process: transformers takes one GPU, a server all of a node.
    """
    server = context.is_explicit("backend") and context.name("backend") in ("vllm", "sglang")
    context = as_one_process(context, context.planned.world.processes_per_node if server else 1)
    folder = folder or context.folder
    spec = _spec(context, folder)
    document = Document(f"{folder}/benchmarks.json", "json", spec)
    command = Command((LM_EVAL.python, PROGRAM, document.path), comment="lm-evaluation-harness, in its own environment")
    made = assemble.job_of(
        context, [document], [command], list(_inputs(context)), "metrics", title or assemble.title_of(context, "benchmarks"),
        runtime=MODULES, packages=_packages(context), environment=LM_EVAL.name,
    )  # fmt: skip
    return replace(made, folder=folder, key=key or made.key, result=f"{folder}/result")


def _spec(context: StageContext, folder: str) -> dict[str, Any]:
    """What runtime/benchmarks.py reads."""
    start, world = context.stage.start, context.planned.world
    assert start is not None, "checked before a stage is lowered"
    options = start.base.options if isinstance(start.base, Term) else {}
    backend = context.name("backend") if context.is_explicit("backend") else "hf"
    batch = context.get("batch") if context.is_explicit("batch") else None
    spec: dict[str, Any] = {"stage": folder, "model": context.paths.model(start.base), "backend": backend or "hf"}
    if len(start.adapters) > 1:
        help = "put a `merge` stage between"
        context.refuse("model", "lm-eval loads one adapter at most, and this model has several", help)
    if start.adapters:
        spec["adapter"] = context.paths.adapter(start.adapters[-1])
    for name in ("revision", "trust_remote_code"):
        if options.get(name):
            spec[name] = options[name]
    if backend != "hf" and not world.gpu:
        context.refuse("backend", f"`{backend}` needs a GPU", "write `backend = hf`")
    if backend == "vllm" and (share := context.option("backend", "gpu_memory")) is not None:
        spec["backend_options"] = {"gpu_memory_utilization": float(getattr(share, "number", share))}
    spec |= {"device": "cuda" if world.gpu else "cpu", "gpus": world.size if world.gpu else 0}
    spec |= {"batch": batch or ("auto" if world.gpu else 1), "seed": int(context.get("seed") or 0)}
    if dtype := DTYPES.get(context.name("precision")):
        spec["dtype"] = dtype
    if context.is_explicit("max_len"):
        spec["max_len"] = int(context.get("max_len"))
    if context.get("limit"):
        spec["limit"] = int(context.get("limit"))
    if context.get("chat"):
        spec["chat"] = True
    return spec | {"tasks": list(_tasks(context))}


def _tasks(context: StageContext) -> Iterator[dict[str, Any]]:
    for term in context.stage.settings.items("tasks"):
        shots = term.options.get("shots", context.get("shots"))
        task: dict[str, Any] = {"name": term.name}
        if term.name == "file":
            path = str(term.options["path"])
            known = task_file(path, context.plan.recipe.folder, context.session)
            task = {"name": known.name if known else PurePosixPath(path).stem, "file": seen_from_run(path)}
        yield task | ({"shots": int(shots)} if shots is not None else {})


def _inputs(context: StageContext) -> Iterator[str]:
    """The task files, and what lies beside them that they name."""
    for term in context.stage.settings.items("tasks"):
        if term.name == "file":
            path = str(term.options["path"])
            yield path
            known = task_file(path, context.plan.recipe.folder, context.session)
            yield from known.files if known else ()


def _packages(context: StageContext) -> tuple[str, ...]:
    return (context.name("backend"),) if context.name("backend") in ("vllm", "sglang") else ()
