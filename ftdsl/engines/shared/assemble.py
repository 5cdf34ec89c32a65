"""A stage's documents and commands, assembled into a job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ftdsl.engines.jobs import Command, Document, Gate, Job
from ftdsl.engines.shared import overlay, parallel
from ftdsl.engines.shared.lint_view import lint
from ftdsl.engines.shared.scratch import needed_by
from ftdsl.engines.shared.shell_stage import exported
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import StageRef, Term


def job_of(
    context: StageContext,
    documents: list[Document],
    commands: list[Command],
    inputs: list[str],
    result: Any,
    title: str,
    gates: tuple[Gate, ...] = (),
    *,
    runtime: tuple[str, ...],
    packages: Iterable[str] = (),
    environment: str = "",
) -> Job:
    """A stage's job; the lint rules run over its documents first.

    runtime: the runtime modules of its program (those that other commands use are added);
    packages: distributions that its environment must have; environment: a tool's, where it is not the engine's.
    """
    lint(context, documents)
    variables: Mapping[str, Any] = {**parallel.environment(context), **overlay.environment(context)}
    used = " ".join(str(argument) for command in commands for argument in command.argv)
    named = tuple(name for name in ("calibrate", "gate", "merge_shards", "retry") if f"runtime/{name}.py" in used)
    needed = ("checkpoints", "failures") if "retry" in named else ()
    runtime = tuple(dict.fromkeys((*runtime, *named, *needed)))
    if any(document.path.endswith("/leaks.json") for document in documents):
        runtime = (*runtime, "data")
    world = context.planned.world
    stage = context.stage
    return Job(
        key=stage.key,
        folder=context.folder,
        kind=stage.kind,
        title=title,
        needs=(*needed_by(context), *_shared(context, documents)),
        documents=tuple(documents),
        commands=tuple(commands),
        env={name: exported(value) for name, value in variables.items()},
        runtime=runtime,
        inputs=tuple(dict.fromkeys(inputs)),
        reads=reads_of(context),
        result=result_of(context),
        result_kind=result,
        processes=world.size,
        nodes=world.nodes,
        by_hand=parallel.by_hand(context),
        accelerators=world.size if world.gpu else 0,
        gates=gates,
        environment=environment or context.engine.name,
        uploads=str(context.option("push", "id") or ""),
        packages=tuple(dict.fromkeys(packages)),
        location=context.location,
        header=parallel.equation(context),
    )


_ROWS = ("data", "source", "evaluate", "holdout", "calibrate", "inputs", "run", "to", "media")
"""Keys of rows, scripts and destinations, which are no models."""


def reads_of(context: StageContext) -> tuple[str, ...]:
    """Models, adapters and checkpoints of the recipe's own that a stage reads, as they are written."""
    start = context.stage.start
    values = [value for key, value in context.stage.settings.values.items() if key.partition(".")[0] not in _ROWS]
    return tuple(dict.fromkeys(_files([*((start.base, *start.adapters) if start else ()), *values])))


def _files(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        path = value.options.get("path") if isinstance(value, Term) and value.name == "file" else None
        if isinstance(path, str) and not path.startswith("run://"):  # the result of a stage is no file of the recipe's
            yield path
        elif isinstance(value, Term):
            yield from _files(value.options.values())
        elif isinstance(value, list | tuple):
            yield from _files(value)


def _shared(context: StageContext, documents: list[Document]) -> list[str]:
    """Keys of the shared jobs whose results the stage's documents refer to."""
    named = [document.data.get("tokenized_path") for document in documents if document.kind == "yaml"]
    return [job.key for job in context.paths.shared.values() if job.result in named]


def result_of(context: StageContext) -> str:
    return context.paths.result(StageRef(context.stage.name, "", context.stage.run))


def title_of(context: StageContext, what: str) -> str:
    if context.stage.parents:
        return f"{what} from {', '.join(context.stage.parents)}"
    start = context.stage.start
    base = start.base if start else None
    if isinstance(base, StageRef):
        return f"{what} from {base.stage}"
    options = base.options if isinstance(base, Term) else {}
    source = options.get("id") or options.get("path") or options.get("architecture")
    name = source.name if isinstance(source, Term) else source.stage if isinstance(source, StageRef) else source
    return f"{what} of {name}" if name else what
