"""Before a stage starts: are rows it is evaluated with trained on too? A command of the stage, for all its data sets.

Parts that one data stage splits off its rows cannot share any, and need no look.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftdsl.engines.jobs import Command, Document
from ftdsl.engines.shared.data_stage import ALIKE
from ftdsl.engines.shared.parallel import PYTHON
from ftdsl.engines.shared.run_paths import seen_from_run
from ftdsl.engines.shared.sources import passes_through, shape_in
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import StageRef, Term
from ftdsl.plan.plan import PlannedStage
from ftdsl.recipe.lineage import TRAINING
from ftdsl.recipe.shape import PAIRS

Source = tuple[Term | StageRef, PlannedStage]
"""A data set, and the stage that reads it."""


def leak_check(context: StageContext) -> tuple[Document, Command] | None:
    """The comparison's spec and command; None where there is nothing to compare."""
    evaluated, trained = _evaluated(context), _trained(context)
    # What is evaluated with on purpose although it is trained on is named in both places.
    evaluated = [one for one in evaluated if not any(one[0] == other[0] for other in trained)]
    pairs = [(one, other) for one in evaluated for other in trained if not _apart(context, one[0], other[0])]
    if not pairs:
        return None
    sides = {"train": _once(other for _, other in pairs), "eval": _once(one for one, _ in pairs)}
    parts = {side: [_part(context, *source) for source in sources] for side, sources in sides.items()}
    skipped = [part["name"] for found in parts.values() for part in found if "path" not in part]
    known = {side: [part for part in found if "path" in part] for side, found in parts.items()}
    if not all(known.values()):
        return None
    key = "evaluate.data" if context.stage.kind in TRAINING else "data"
    spec: dict[str, Any] = {
        "stage": context.folder,
        "where": context.plan.recipe.where(context.stage.spans.get(key, context.stage.span)),
        "leak": context.name("guard.leak") if context.stage.kind in TRAINING else "warn",
        **known,
        "skipped": skipped,
    }
    if near := [share for source in (*sides["train"], *sides["eval"]) if (share := _near(context, source[0]))]:
        spec["near"] = min(near)
    document = Document(f"{context.folder}/leaks.json", "json", spec)
    return document, Command(
        (PYTHON, "-m", "runtime.data", "leaks", document.path), comment="is what it is evaluated with trained on?"
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
    """What the stage trains on; of one that scores, what all stages before it have trained on."""
    if context.stage.kind in TRAINING:
        return list(_named(context.planned, "data"))
    todo, seen = [*context.stage.needs], set()
    while todo:
        key = todo.pop()
        if key not in seen:
            seen.add(key)
            todo += context.plan.stage(key).stage.needs
    before = [planned for planned in context.plan.stages if planned.key in seen and planned.stage.kind in TRAINING]
    return [source for planned in before for source in _named(planned, "data")]


def _once(sources: Iterator[Source]) -> list[Source]:
    return list({item: (item, planned) for item, planned in sources}.values())


def _apart(context: StageContext, one: Term | StageRef, other: Term | StageRef) -> bool:
    """Whether both are parts of one data stage, split off the same rows."""
    if not isinstance(one, StageRef) or not isinstance(other, StageRef) or one.key != other.key:
        return False
    settings = context.plan.stage(one.key).stage.settings
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
    """Where a data set lies, and what its rows look like; without a path where only the engine reads it."""
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
    found = {"name": name, "format": family + shape.format, "columns": dict(shape.columns), "roles": dict(shape.roles)}
    return found | ({"path": path} if path else {})
