"""`scratch(…)` models: a job that creates one, before every stage that starts from it."""

from __future__ import annotations

from typing import Any

from ftdsl import catalog
from ftdsl.engines.jobs import Command, Document, Job
from ftdsl.engines.shared.overlay import plain
from ftdsl.engines.shared.parallel import PYTHON
from ftdsl.engines.shared.run_paths import RunPaths, seen_from_run, written_id
from ftdsl.engines.shared.sources import passes_through
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import StageRef, Term
from ftdsl.plan.plan import Plan, PlannedStage, number_of, numbered
from ftdsl.recipe.rules.data import sources
from ftdsl.session import Session


def _terms(plan: Plan) -> dict[str, tuple[Term, list[PlannedStage]]]:
    """Every scratch model by its id, with the stages whose lineage starts there."""
    terms: dict[str, tuple[Term, list[PlannedStage]]] = {}
    for planned in plan.stages:
        base = planned.stage.start.base if planned.stage.start else None
        if isinstance(base, Term) and base.name == "scratch":
            terms.setdefault(written_id(base), (base, []))[1].append(planned)
    return terms


def scratch_folders(plan: Plan) -> dict[str, str]:
    """Folders by id, numbered after those of the data that their tokenizers are trained on."""
    folders = {}
    for at, (name, (_, users)) in enumerate(_terms(plan).items()):
        numbers = [number_of(folder) for folder in _data_folders(plan, _family(plan, users))]
        suffix = "" if at == 0 else f"-{at + 1}"
        folders[name] = numbered(plan.stages[0].folder, max(numbers, default=0) + 5 + at, f"scratch{suffix}")
    return folders


def _family(plan: Plan, users: list[PlannedStage]) -> list[PlannedStage]:
    """The users, and all stages that start from their results: the tokenizer is trained on their data too."""
    keys = {planned.key for planned in users}
    for planned in plan.stages:
        start = planned.stage.start
        refs = (start.base, *start.adapters) if start else ()
        if any(isinstance(ref, StageRef) and ref.key in keys for ref in refs):
            keys.add(planned.key)
    return [planned for planned in plan.stages if planned.key in keys]


def _data_stages(plan: Plan, family: list[PlannedStage]) -> list[PlannedStage]:
    refs = [item for planned in family for _, item in sources(planned.stage) if isinstance(item, StageRef)]
    keys = dict.fromkeys(ref.key for ref in refs)
    stages = [planned for planned in plan.stages if planned.key in keys and planned.stage.kind == "data"]
    return [planned for planned in stages if not passes_through(planned.stage.settings)]


def _data_folders(plan: Plan, family: list[PlannedStage]) -> list[str]:
    return [planned.folder for planned in _data_stages(plan, family)]


def lower_scratch(plan: Plan, paths: RunPaths, session: Session) -> list[Job]:
    """A job for each scratch model."""
    return [_job(plan, paths, term, users, session) for term, users in _terms(plan).values()]


def _job(plan: Plan, paths: RunPaths, term: Term, users: list[PlannedStage], session: Session) -> Job:
    folder = paths.scratch[written_id(term)]
    family = _family(plan, users)
    data = _data_stages(plan, family)
    files = [
        str(item.options["path"])
        for planned in family
        for _, item in sources(planned.stage)
        if isinstance(item, Term) and item.name == "file" and "entry" not in item.options
    ]
    options = {name: plain(value) for name, value in term.options.items() if name not in ("like", "place")}
    spec: dict[str, Any] = {"stage": folder, **options, "like": _like(term, paths)}
    if path := term.options.get("place"):
        spec["place"] = seen_from_run(str(path))
    if plan.recipe.smoke:
        spec["smoke"] = True
    package, formats = catalog.chat_formats()
    if users[0].engine.name != package:  # its environment lacks the package that has the templates
        spec["formats"] = [formats[name] for name in spec.get("templates") or () if name in formats]
    spec.setdefault("seed", plan.recipe.seed)
    spec["texts"] = [f"{planned.folder}/train.jsonl" for planned in data] + [
        seen_from_run(path) for path in dict.fromkeys(files)
    ]
    span = users[0].stage.spans.get("model", users[0].stage.span)
    if not spec["texts"] and spec["like"] is None and not spec.get("toy"):
        session.sink.error("FT012", "there are no files to train the tokenizer of this scratch model on", span)
    document = Document(f"{folder}/scratch.json", "json", spec)
    return Job(
        key=job_key(folder),
        folder=folder,
        kind="scratch",
        title=f"random {spec.get('architecture') or 'model'} and its tokenizer",
        needs=tuple(planned.key for planned in data),
        documents=(document,),
        commands=(Command((PYTHON, "runtime/scratch.py", document.path)),),
        runtime=MODULES,
        inputs=tuple(path for path in dict.fromkeys(files) if not path.startswith("run://")),
        result=f"{folder}/result",
        result_kind="model",
        environment=users[0].engine.name,
        location=plan.recipe.location(span),
    )


MODULES = ("__init__", "chat", "events", "report", "scratch", "toy")
"""`runtime/scratch.py` and what it imports."""


def job_key(folder: str) -> str:
    """The key ends in `()`, which no name of a stage can: a stage may be called `scratch`."""
    return folder.partition("-")[2] + "()"


def _like(term: Term, paths: RunPaths) -> str | None:
    like = term.options.get("like")
    return None if like is None else like if isinstance(like, str) else paths.model(like)


def needed_by(context: StageContext) -> tuple[str, ...]:
    """Keys of the jobs a stage waits for: the stages it needs, without data stages that the engine reads unchanged, and the
    jobs that make its models.
    """
    needs = []
    for key in context.stage.needs:
        other = context.plan.stage(key).stage
        if other.kind != "data" or not passes_through(other.settings):
            needs.append(key)
    base = context.stage.start.base if context.stage.start else None
    if isinstance(base, Term) and base.name == "scratch":
        needs.append(job_key(context.paths.scratch[written_id(base)]))
    for where in (base, *(context.stage.start.adapters if context.stage.start else ())):
        if isinstance(where, Term) and where.name == "best":
            needs.append(job_key(context.paths.best[written_id(where)]))
    return tuple(dict.fromkeys(needs))
