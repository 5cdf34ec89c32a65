"""Compares two recipes, profiles of a recipe, or files of an engine, by what they would do.

Stages are paired by name, else by kind. Differences are named by keys of the
language, grouped by importance: batch, rate, schedule, data, method; then what would have to run again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.importers.files import find
from ftdsl.importers.imports import Imported, import_all
from ftdsl.importers.recognise import is_recipe
from ftdsl.importers.values import written
from ftdsl.importers.write import key_at
from ftdsl.language.printing import UnwritableError
from ftdsl.language.resolve.resolve import Options
from ftdsl.language.values import Term
from ftdsl.pipeline import Checked, check
from ftdsl.plan.plan import PlannedStage
from ftdsl.recipe.settings import METHODS, shown
from ftdsl.record import frozen
from ftdsl.run.cache_keys import CacheKeys
from ftdsl.run.fingerprint import kept_digests
from ftdsl.session import Session

GROUPS = ("effective batch", "learning rate", "schedule", "data", "model", "method", "hardware", "")
"""In the order in which they are shown; "" is the rest."""

_GROUPED = {
    "optim.lr": "learning rate", "optim.schedule": "schedule", "optim.warmup": "schedule", "optim.min_lr": "schedule",
    "duration": "schedule", "data": "data", "mix": "data", "limit": "data", "evaluate.data": "data", "model": "model",
}  # fmt: skip
_DERIVED = ("after", "batch.micro", "batch.accumulate", "batch.global", "batch.tokens", "parallel.strategy")
"""Shown by the batch equation, by the graph, or under the name the plan gives them."""


@frozen
class Side:
    """One of the two: what it is called, its plan, and the key of every job (what its result depends on)."""

    label: str
    checked: Checked
    keys: Mapping[str, str]
    imported: Imported | None = None

    @property
    def stages(self) -> dict[str, PlannedStage]:
        plan = self.checked.plan
        return {planned.key: planned for planned in plan.stages} if plan else {}


@frozen(eq=True)
class Change:
    """A key that differs: both values as a person writes them, "" where it is not set; the origin of each."""

    stage: str
    group: str
    key: str
    before: str
    after: str
    where_before: str
    where_after: str


@frozen
class Comparison:
    """What differs; stages that only one side has; stages whose result of one side is no use to the other."""

    changes: Sequence[Change]
    only_before: Sequence[str]
    only_after: Sequence[str]
    again: Sequence[str]

    @property
    def equal(self) -> bool:
        return not (self.changes or self.only_before or self.only_after or self.again)


def read(path: Path, text: str, options: Options, name: str, session: Session) -> Side | None:
    """A side, under a common recipe name so that names of runs make no difference. None with the reason in the sink."""
    if is_recipe(path.name, text):
        checked = check(path, options, session)
        if checked.recipe is not None and not session.sink.failed:
            checked = check(path, _named(options, name), Session(session.files, session.env))
        imported = None
    else:
        inputs = find([(path, text)], session)
        if session.sink.failed or not inputs.starts:
            return None
        target = inputs.starts[0].root / path.with_suffix(".ft").name  # paths stay as the engine sees them
        imported = import_all(inputs.starts, name, target, [], session)
        checked = imported.checked
    if session.sink.failed or checked.plan is None or checked.recipe is None:
        return None
    keys = CacheKeys(checked.jobs, checked.recipe.folder, {}, kept_digests())
    return Side(path.as_posix(), checked, keys, imported)


def _named(options: Options, name: str) -> Options:
    return Options(options.profiles, (*options.sets, f'name="{name}"'), options.params)


def compare(before: Side, after: Side) -> Comparison:
    pairs = list(_pairs(before.stages, after.stages))
    changes = [change for left, right in pairs for change in _changes(before, left, after, right)]
    changes.sort(key=lambda change: GROUPS.index(change.group))
    left_keys, right_keys = {left.key for left, _ in pairs}, {right.key for _, right in pairs}
    return Comparison(
        sorted(changes, key=lambda change: list(after.stages).index(change.stage)),
        [key for key in before.stages if key not in left_keys],
        [key for key in after.stages if key not in right_keys],
        [right.key for left, right in pairs if before.keys.get(left.key) != after.keys.get(right.key)],
    )


def _pairs(
    before: Mapping[str, PlannedStage], after: Mapping[str, PlannedStage]
) -> Iterator[tuple[PlannedStage, PlannedStage]]:
    """Stages of one name and kind; then, kind by kind, the one that is left on each side."""
    left = {
        key: stage for key, stage in before.items() if key not in after or after[key].stage.kind != stage.stage.kind
    }
    right = {key: stage for key, stage in after.items() if key in left or key not in before}
    yield from ((stage, after[key]) for key, stage in before.items() if key not in left)
    for stage in left.values():
        left_over = [stage_left for stage_left in left.values() if stage_left.stage.kind == stage.stage.kind]
        same = [stage_left for stage_left in right.values() if stage_left.stage.kind == stage.stage.kind]
        if len(same) == len(left_over) == 1:
            yield stage, same[0]


def _changes(before: Side, left: PlannedStage, after: Side, right: PlannedStage) -> Iterator[Change]:
    if str(left.batch) != str(right.batch):
        locations = (
            _where(before, left, "batch.global", "batch.micro"),
            _where(after, right, "batch.global", "batch.micro"),
        )
        yield Change(right.key, "effective batch", "batch", _batch(left), _batch(right), *locations)
    if left.method != right.method:
        locations = (_where(before, left, left.method), _where(after, right, right.method))
        yield Change(right.key, "method", "method", left.method, right.method, *locations)
    if left.strategy != right.strategy:
        locations = (_where(before, left, "parallel.strategy"), _where(after, right, "parallel.strategy"))
        yield Change(right.key, "hardware", "parallel.strategy", left.strategy, right.strategy, *locations)
    for key in dict.fromkeys([*left.stage.settings.values, *right.stage.settings.values]):
        if key in _DERIVED or (right.stage.kind not in (*TRAINING, "eval") and _group(key) == "hardware"):
            continue
        setting, other_setting = left.stage.settings.get(key), right.stage.settings.get(key)
        if setting == other_setting or _resolved(before, setting) == _resolved(after, other_setting):
            continue
        texts = (_text(left, key, setting), _text(right, key, other_setting))
        yield Change(right.key, _group(key), key, *texts, _where(before, left, key), _where(after, right, key))


def _batch(planned: PlannedStage) -> str:
    batch = planned.batch
    return f"{batch.total} ({batch.micro} x {batch.accumulate} x {batch.data_parallel})" if batch else ""


def _group(key: str) -> str:
    block = key.partition(".")[0]
    if block in (*METHODS, "quantize"):
        return "method"
    return _GROUPED.get(key, "hardware" if block in ("hardware", "parallel", "launch") else "")


def _resolved(side: Side, given: Any) -> Any:
    """With absolute paths: two recipes in two folders may name the same file."""
    recipe = side.checked.recipe
    if isinstance(given, list | tuple):
        return [_resolved(side, item) for item in given]
    if isinstance(given, Term) and recipe is not None:
        options = {name: _resolved(side, option) for name, option in given.options.items()}
        if isinstance(path := options.get("path"), str) and "://" not in path:
            options["path"] = str((recipe.folder / path).resolve())
        return Term(given.name, options)
    return given


def _text(planned: PlannedStage, key: str, given: Any) -> str:
    if given is None:
        return ""
    try:
        return written(given, key_at(planned.stage.kind, key))
    except UnwritableError:
        return shown(given)


def _short(side: Side, where: str) -> str:
    """`line 12` of the side's own file."""
    own = where.removeprefix(f"{side.label}:")
    return f"line {own}" if own.isdigit() else where


def _where(side: Side, planned: PlannedStage, *keys: str) -> str:
    """The origin of a value: a location in a file, a profile, or a choice with its reason."""
    for key in keys:
        location = side.imported.locations.get((planned.key, key)) if side.imported else None
        origin, span = planned.stage.origins.get(key), planned.stage.spans.get(key)
        if location or (origin is None and span is not None and side.imported is None):
            return _short(side, location or (span.location if span else ""))
        if origin is None:
            continue
        if origin.kind == "auto":
            return f"chosen: {origin.reason}"
        if side.imported is not None:
            return "the engine's default"
        plain = origin.kind in ("stage", "file", "include")
        return _short(side, origin.location) if plain else f"{origin.location or origin.kind} [{origin.kind}]"
    return "default" if keys and planned.stage.settings.get(keys[0]) is not None else ""
