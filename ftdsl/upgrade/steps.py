"""What becomes of each key of a text: the same now, in other words, or something only a person can tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ftdsl import catalog
from ftdsl.record import frozen
from ftdsl.upgrade.goal import Goal

UNREADABLE = object()
"""A value that stands in the text as something to be worked out: it can be moved, not changed."""

ROUNDS = 5
"""What takes a key's place may itself have gone; chains are short."""


@frozen
class Step:
    """One key: what says the same now (None: it is left as it is, for the reason given), why, and where that is written."""

    key: str
    becomes: Mapping[str, Any] | None
    reason: str
    source: str = ""
    also: tuple[str, ...] = ()


@frozen
class Default:
    """A key that is not said, whose default is another one now."""

    key: str
    package: str
    before: Any
    now: Any
    since: str


def steps(values: Mapping[str, Any], goal: Goal) -> Iterator[Step]:
    """A step for each key that cannot stay as it is, in the order of the text."""
    for key, value in values.items():
        step = _step(key, value, goal)
        if step is not None:
            yield _without_clash(step, values, goal)


def _step(key: str, value: Any, goal: Goal) -> Step | None:
    now: dict[str, Any] = {key: value}
    reasons: dict[str, None] = {}
    sources: dict[str, None] = {}
    for _ in range(ROUNDS):
        before = dict(now)
        for name, one in before.items():
            change = _change(name, goal)
            if change is None:
                now |= _value(name, one, goal, reasons, sources)
                continue
            becomes = _becomes(change, one)
            if becomes is None:
                return Step(key, None, change.hand or _no_counterpart(one), change.source)
            del now[name]
            now |= becomes
            reasons[change.drop or change.why] = None
            sources[change.source] = None
        if now == before:
            break
    if reasons:
        return Step(key, now, "; ".join(reasons), "; ".join(sources))
    return None if goal.takes(key) else _unknown(key, goal)


def _becomes(change: catalog.Change, value: Any) -> dict[str, Any] | None:
    if value is UNREADABLE and (change.values or change.how != "rename"):
        return None
    return change.becomes(value)


def _no_counterpart(value: Any) -> str:
    return "its value has to be worked out" if value is UNREADABLE else f"nothing says `{value}` any more"


def _change(key: str, goal: Goal) -> catalog.Change | None:
    """What becomes of a key on the way there, if it cannot stay."""
    for package in goal.packages:
        change = catalog.replacement(package, key)
        if change is None:
            continue
        there = key in goal.schema_of(package)
        if there and not (_deprecated(change, goal) and all(goal.takes(target) for target in change.targets)):
            continue
        if not there and not _meant(package, key, goal):
            continue
        return change
    return None


def _meant(package: str, key: str, goal: Goal) -> bool:
    """Whether a key that a package has no more is still that package's, when another has one of that name now: the
    engine's own comes first, and of transformers' it is said only by what was there before."""
    if not goal.takes(key):
        return True
    owner = next((one for one in goal.packages if key in goal.schema_of(one)), package)
    return goal.packages.index(package) < goal.packages.index(owner) and goal.had(package, key)


def _deprecated(change: catalog.Change, goal: Goal) -> bool:
    at = change.deprecated
    return bool(at and change.targets and catalog.numbers(at) <= catalog.numbers(goal.facts(change.package)))


def _value(key: str, value: Any, goal: Goal, reasons: dict[str, None], sources: dict[str, None]) -> dict[str, Any]:
    """The key with its value of today, if that has another name."""
    for package in goal.packages:
        for change in catalog.value_changes(package, key):
            if change.old == value and not _has_value(change, goal):
                reasons[f"`{change.old}`: {change.why}"] = None
                sources[change.source] = None
                return {key: change.new}
    return {key: value}


def _has_value(change: catalog.ValueChange, goal: Goal) -> bool:
    if change.table == "choices":
        return change.old in goal.schema_of(change.package).get(change.key, {}).get("choices", ())
    table, _, prefix = change.table.partition(".")
    return f"{prefix}.{change.old}" in catalog.schema(change.package, goal.facts(change.package), table)


def _unknown(key: str, goal: Goal) -> Step:
    """A key that is not taken afterwards, and that nothing is known to replace."""
    for package in goal.packages:
        history = catalog.key_history(package, key)
        if history is None:
            continue
        if not history.until:
            return Step(key, None, f"it exists since {package} {history.since}")
        return Step(key, None, f"it is gone since {package} {history.until}")
    return Step(key, None, f"no version of {' or '.join(goal.packages)} that is known has it")


def _without_clash(step: Step, values: Mapping[str, Any], goal: Goal) -> Step:
    """A key that is to be written and stands there already: fine when it says the same, or nothing."""
    also = []
    for name, value in (step.becomes or {}).items():
        if name == step.key or name not in values:
            continue
        there = values[name]
        if there not in (value, goal.schema.get(name, {}).get("default")):
            return Step(step.key, None, f"`{name}` is said too, and otherwise", step.source)
        also.append(name)
    return Step(step.key, step.becomes, step.reason, step.source, tuple(also))


def defaults(values: Mapping[str, Any], goal: Goal) -> Iterator[Default]:
    """Keys that are not said and mean something else now, where it is known what they meant."""
    for package in goal.packages:
        if package not in goal.before:
            continue
        before = catalog.schema(package, goal.before[package])
        for key, fact in goal.schema_of(package).items():
            old = before.get(key, {})
            known = "default" in fact and "default" in old
            if key not in values and known and fact["default"] != old["default"] and key not in _LITTLE:
                history = catalog.key_history(package, key)
                since = history.defaults()[-1][0] if history else ""
                yield Default(key, package, old["default"], fact["default"], since)


_LITTLE = frozenset({"lr_scheduler_kwargs", "fsdp", "hub_private_repo", "gradient_checkpointing", "warmup_ratio",
                     "include_num_input_tokens_seen", "trackio_space_id"})  # fmt: skip
"""Keys whose default is spelled otherwise and means the same."""
