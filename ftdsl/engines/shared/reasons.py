"""What decides each line of a job's files: a dotted key of the recipe, or a sentence.

The overlay leads from a parameter back to the key; lines that no key decides are explained in reasons.toml.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ftdsl import catalog
from ftdsl.engines.jobs import Document, Job, Reasons
from ftdsl.engines.shared.lint_view import written_by
from ftdsl.plan.plan import PlannedStage


def reasons_of(engine: str, planned: PlannedStage | None, job: Job) -> Reasons:
    """Reasons for every document, launch argument and variable of a job. planned: None for jobs that several stages share."""
    table = catalog.reasons(engine)
    lines = {document.path: dict(_lines(engine, planned, job, document)) for document in job.documents}
    names = {path: path.rpartition("/")[2] for path in (*lines, f"{job.folder}/launch.sh")}
    about = {path: table["file"].get(name, "") for path, name in names.items()}
    variables = {name: f"env.{name}" for name in (planned.stage.settings.inside("env") if planned else ())}
    return Reasons(lines, about, table["argument"], {**table["variable"], **variables})


def _lines(engine: str, planned: PlannedStage | None, job: Job, document: Document) -> Iterator[tuple[str, str]]:
    if document.why:
        yield from document.why.items()
    elif document.kind == "yaml" and planned is not None:
        for name in document.data:
            yield name, parameter(planned, name)
    elif document.path.endswith("/stage.json"):
        yield from ((name, catalog.reasons(engine)["stage"].get(name, "")) for name in document.data)
    elif document.path.endswith("/dataset_info.json"):
        reasons = catalog.reasons(engine)["rows"]
        for name, entry in document.data.items():
            for key, value in entry.items():
                if isinstance(value, dict):
                    yield from ((f"{name}.{key}.{inner}", reasons.get(key, "")) for inner in value)
                else:
                    yield f"{name}.{key}", reasons.get(key, "data")


def parameter(planned: PlannedStage, name: str) -> str:
    """What decides a parameter of the engine; "" if unknown."""
    stage = planned.stage
    passthrough = next(
        (key for block in (planned.engine.name, "megatron") if (key := f"{block}.{name}") in stage.origins), None
    )
    if passthrough:
        return passthrough
    if name == "finetuning_type" and planned.method and stage.settings.has(planned.method):
        return planned.method
    keys = [*dict.fromkeys(key for key, _ in written_by(planned.engine.name, stage.kind).get(name, ()))]
    if adapters := catalog.passthrough_key(planned.engine.name, "megatron", name):
        keys.append(adapters)
    kinds = {key: stage.origins[key].kind for key in keys if key in stage.origins}
    explicit = [key for key in kinds if kinds[key] not in ("auto", "default")]
    explicit += [key for key in kinds if kinds[key] == "auto"]
    sentences: Mapping[str, str] = catalog.reasons(planned.engine.name)["parameter"]
    return next(iter([*explicit, *filter(None, [sentences.get(name)]), *keys]), "")
