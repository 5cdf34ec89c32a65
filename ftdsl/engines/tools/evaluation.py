"""An `eval` stage around what its engine scores: benchmarks, functions of the author's own, and differences to another model."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from ftdsl.engines.engine import Lowering
from ftdsl.engines.jobs import Command, Document, Job, Raw
from ftdsl.engines.shared.gates import gate_command, gates_of
from ftdsl.engines.shared.parallel import PYTHON
from ftdsl.engines.shared.run_paths import seen_from_run
from ftdsl.engines.shared.scratch import job_key
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.engines.shared.trainer.start import lineage_of
from ftdsl.engines.tools import benchmarks
from ftdsl.engines.tools.tool import LM_EVAL
from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.recipe import Lineage
from ftdsl.recipe.rules.evaluation import own_scorers
from ftdsl.recipe.settings import Settings
from ftdsl.record import replace

PREDICTIONS = "predict/generated_predictions.jsonl"
"""In the stage's folder: answers that the engine generated, as `prompt`, `label`, `predict`."""


def lower_eval(context: StageContext, lowering: Lowering | None) -> Job | None:
    """The stage's job; others that it needs go to the shared jobs. lowering: the engine's, for rows; None where it has none."""
    _check(context)
    rows = context.get("data") is not None or not benchmarks.wants(context)
    if rows and lowering is None:
        return None
    if rows:
        assert lowering is not None
        job = lowering(context)
    else:
        job = benchmarks.job(context)
    if context.session.sink.failed:
        return job
    return _completed(context, job, lowering if rows else None, PYTHON if rows else LM_EVAL.python)


OF_BENCHMARKS = ("shots", "chat", "backend")


def _check(context: StageContext) -> None:
    """What a stage asks for and could not measure."""
    if not benchmarks.wants(context) and "tasks" not in context.stage.unknown:
        for key in OF_BENCHMARKS:
            if context.is_explicit(key):
                help = "drop it, or name benchmarks: `tasks = [gsm8k]`"
                context.warn(key, f"`{key}` is of benchmarks, and this stage has none", help)
    if benchmarks.wants(context) and context.get("data") is None and context.is_explicit("metrics"):
        help = "write `data = NAME.eval`, or drop `metrics`"
        context.refuse("metrics", "`metrics` are scores of rows, and this stage has no `data`", help)
    against = context.get("against")
    start = context.stage.start
    if against is not None and start is not None:
        other = lineage_of(context, against)
        if (other.base, other.adapters) == (start.base, start.adapters):
            help = "name another model"
            context.refuse("against", "`against` is the model that this stage scores: there is no difference", help)


def _completed(context: StageContext, job: Job, lowering: Lowering | None, python: Raw) -> Job:
    """The job with the scores that its own program does not give, before its gates."""
    spec: dict[str, Any] = {"stage": job.folder}
    parts: list[Job] = []
    own = [_scorer(path) for path in own_scorers(context.stage.settings)] if lowering else []
    if own:
        spec |= {"own": own, "predictions": f"{job.folder}/{PREDICTIONS}"}
    if lowering and benchmarks.wants(context):
        folder = f"{job.folder}-tasks"
        parts.append(benchmarks.job(context, folder=folder, key=job_key(folder)))
        spec["parts"] = [folder]
    if against := _against(context, lowering):
        parts += against
        name = _name(context.get("against"))
        spec["against"] = {"name": name, "parts": [part.folder for part in against]}
    for part in parts:
        context.paths.shared[part.key] = replace(part, kind="scores")  # of a stage, and no stage by itself
    documents, commands, gates = list(job.documents), list(job.commands), job.gates
    if len(spec) > 1:
        document = Document(f"{job.folder}/scores.json", "json", spec)
        at = next((at for at, command in enumerate(commands) if "runtime/gate.py" in command.argv), len(commands))
        documents.append(document)
        commands.insert(at, Command((python, "runtime/scores.py", document.path), comment=_comment(spec)))
    if not lowering:
        gates = tuple(gates_of(context))
        if gates:
            commands.append(gate_command(context, documents, gates, python))
    files = [scorer["path"].removeprefix("inputs/") for scorer in own]
    modules = [*(["scores"] if len(spec) > 1 else []), *(["gate"] if gates else [])]
    return replace(
        job,
        documents=tuple(documents),
        commands=tuple(commands),
        gates=gates,
        needs=tuple(dict.fromkeys((*job.needs, *(part.key for part in parts)))),
        inputs=tuple(dict.fromkeys((*job.inputs, *files))),
        runtime=tuple(dict.fromkeys((*job.runtime, *modules))),
    )


def _comment(spec: dict[str, Any]) -> str:
    parts = {"own": "functions of your own", "parts": "benchmarks", "against": "differences"}
    return "adds to the scores: " + ", ".join(text for key, text in parts.items() if key in spec)


def _scorer(path: str) -> dict[str, str]:
    file, _, function = path.rpartition(":")
    return {"path": seen_from_run(file), "function": function}


def _name(value: Any) -> str:
    """The other model, for people."""
    if isinstance(value, StageRef):
        return value.stage
    options = value.options if isinstance(value, Term) else {}
    return str(options.get("id") or PurePosixPath(str(options.get("path", "the other model"))).name)


def _against(context: StageContext, lowering: Lowering | None) -> list[Job]:
    """Jobs that score the other model in the same way."""
    value = context.get("against")
    if value is None:
        return []
    other = _other(context, lineage_of(context, value), "against")
    jobs = []
    if lowering:
        job = lowering(other)
        jobs.append(_part(other, job, f"rows by {_name(value)}"))
    if benchmarks.wants(context):
        folder = f"{other.folder}-tasks" if lowering else other.folder
        jobs.append(benchmarks.job(other, folder=folder, key=job_key(folder), title=f"benchmarks of {_name(value)}"))
    return jobs


def _part(context: StageContext, job: Job, title: str) -> Job:
    """An engine's job of another model; its own scorers run over its own answers."""
    own = [_scorer(path) for path in own_scorers(context.stage.settings)]
    job = replace(job, key=job_key(job.folder), title=title, result=f"{job.folder}/result")
    if not own:
        return job
    spec = {"stage": job.folder, "own": own, "predictions": f"{job.folder}/{PREDICTIONS}"}
    document = Document(f"{job.folder}/scores.json", "json", spec)
    command = Command((PYTHON, "runtime/scores.py", document.path), comment=_comment(spec))
    files = tuple(scorer["path"].removeprefix("inputs/") for scorer in own)
    return replace(
        job, documents=(*job.documents, document), commands=(*job.commands, command),
        inputs=tuple(dict.fromkeys((*job.inputs, *files))), runtime=(*job.runtime, "scores"),
    )  # fmt: skip


def _other(context: StageContext, start: Lineage, suffix: str) -> StageContext:
    """The same stage of another model, in a folder of its own, without gates."""
    settings = context.stage.settings
    values = {key: value for key, value in settings.values.items() if not key.startswith("gate.") and key != "to"}
    stage = replace(context.stage, start=start, settings=Settings(settings.kind, values, settings.blocks - {"gate"}))
    planned = replace(context.planned, stage=stage, folder=f"{context.folder}-{suffix}")
    return replace(context, planned=planned)
