"""Before a stage starts: are rows of its evaluation data in its training data too? One command for all its data sets.

Parts that one data stage splits off its own rows are disjoint, and are not compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.engines.jobs import Command, Document
from ftdsl.engines.shared.data_stage import ALIKE
from ftdsl.engines.shared.parallel import PYTHON
from ftdsl.engines.shared.run_paths import seen_from_run
from ftdsl.engines.shared.sources import passes_through, shape_in
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import StageRef, Term
from ftdsl.plan.plan import PlannedStage
from ftdsl.recipe.shape import PAIRS

Source = tuple[Term | StageRef, PlannedStage]
"""A data set, and the stage that reads it."""


def leak_check(context: StageContext) -> tuple[Document, Command] | None:
    """The comparison's spec and command; None if there is nothing to compare."""
    evaluated, trained = _evaluated(context), _trained(context)
    # The same source in `data` and in `evaluate.data` is on purpose.
    evaluated = [held for held in evaluated if not any(held[0] == source[0] for source in trained)]
    pairs = [(held, source) for held in evaluated for source in trained if not _disjoint(context, held[0], source[0])]
    if not pairs:
        return None
    sides = {"train": _once(source for _, source in pairs), "eval": _once(held for held, _ in pairs)}
    parts = {side: [_part(context, *source) for source in sources] for side, sources in sides.items()}
    skipped = [part["name"] for side_parts in parts.values() for part in side_parts if "path" not in part]
    readable = {side: [part for part in side_parts if "path" in part] for side, side_parts in parts.items()}
    if not all(readable.values()):
        return None
    key = "evaluate.data" if context.stage.kind in TRAINING else "data"
    spec: dict[str, Any] = {
        "stage": context.folder,
        "where": context.plan.recipe.location(context.stage.spans.get(key, context.stage.span)),
        "leak": context.name("guard.leak") if context.stage.kind in TRAINING else "warn",
        **readable,
        "skipped": skipped,
    }
    if near := [share for source in (*sides["train"], *sides["eval"]) if (share := _near(context, source[0]))]:
        spec["near"] = min(near)
    document = Document(f"{context.folder}/leaks.json", "json", spec)
    return document, Command(
        (PYTHON, "-m", "runtime.data", "leaks", document.path),
        comment="are rows of the evaluation in the training data?",
    )


def _named(planned: PlannedStage, key: str) -> Iterator[Source]:
    for item in planned.stage.settings.items(key):
        if isinstance(item, Term | StageRef):
            yield item, planned


def _evaluated(context: StageContext) -> list[Source]:
    if context.name("guard.leak") == "ignore":
        return []
    return list(_named(context.planned, "evaluate.data" if context.stage.kind in TRAINING else "data"))


def _trained(context: StageContext) -> list[Source]:
    """The stage's training data; of a stage that scores, that of all stages before it."""
    if context.stage.kind in TRAINING:
        return list(_named(context.planned, "data"))
    todo, visited = [*context.stage.needs], set()
    while todo:
        key = todo.pop()
        if key not in visited:
            visited.add(key)
            todo += context.plan.stage(key).stage.needs
    before = [planned for planned in context.plan.stages if planned.key in visited and planned.stage.kind in TRAINING]
    return [source for planned in before for source in _named(planned, "data")]


def _once(sources: Iterator[Source]) -> list[Source]:
    return list({item: (item, planned) for item, planned in sources}.values())


def _disjoint(context: StageContext, evaluated: Term | StageRef, trained: Term | StageRef) -> bool:
    """Whether both are parts of one data stage, split off the same rows."""
    if not isinstance(evaluated, StageRef) or not isinstance(trained, StageRef) or evaluated.key != trained.key:
        return False
    settings = context.plan.stage(evaluated.key).stage.settings
    return not any(isinstance(item, Term) for part in ("eval", "test") for item in settings.items(f"holdout.{part}"))


def _near(context: StageContext, item: Term | StageRef) -> float | None:
    if not isinstance(item, StageRef):
        return None
    dedupe = context.plan.stage(item.key).stage.settings.get("dedupe")
    if not isinstance(dedupe, Term) or dedupe.name != "near":
        return None
    share = dedupe.options.get("share")
    return ALIKE if share is None else float(getattr(share, "number", share))


def _part(context: StageContext, item: Term | StageRef, planned: PlannedStage) -> dict[str, Any]:
    """A data set's path and the shape of its rows; no path if only the engine can read it."""
    if isinstance(item, StageRef):
        name = f"{item.stage}.{item.part}" if item.part else item.stage
        path = None if passes_through(context.plan.stage(item.key).stage.settings) else context.paths.rows(item)
    else:
        name = str(item.options.get("path") or item.options.get("id") or item.name)
        local = item.name == "file" and "entry" not in item.options and "://" not in seen_from_run(name)
        path = seen_from_run(name) if local else None
    shape = shape_in(context.plan, item, planned.stage.kind, context.session)
    kind = planned.stage.kind
    family = "preference-" if kind in PAIRS else "kto-" if kind == "kto" else ""
    spec = {"name": name, "format": family + shape.format, "columns": dict(shape.columns), "roles": dict(shape.roles)}
    return spec | ({"path": path} if path else {})
