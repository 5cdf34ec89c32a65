"""What happens to each key of a text: an equivalent replaces it, or the user must decide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ftdsl import catalog
from ftdsl.record import frozen
from ftdsl.upgrade.goal import Goal

UNREADABLE = object()
"""A value that is an expression in the text: it can be moved, not changed."""

ROUNDS = 5
"""A replacement may itself have been removed; chains are short."""


@frozen
class Step:
    """A change of one key. becomes: its equivalent (None: it stays, and the user must decide); also: keys to remove with it."""

    key: str
    becomes: Mapping[str, Any] | None
    reason: str
    source: str = ""
    also: tuple[str, ...] = ()


@frozen
class Default:
    """A key that is not set and whose default changed."""

    key: str
    package: str
    before: Any
    now: Any
    since: str


def steps(values: Mapping[str, Any], goal: Goal) -> Iterator[Step]:
    """A step for each key that cannot stay, in the order of the text."""
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
        for name, current in before.items():
            change = _change(name, goal)
            if change is None:
                now |= _value(name, current, goal, reasons, sources)
                continue
            becomes = _becomes(change, current)
            if becomes is None:
                return Step(key, None, change.hand or _no_counterpart(current), change.source)
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
    return "its value is an expression" if value is UNREADABLE else f"`{value}` has no equivalent any more"


def _change(key: str, goal: Goal) -> catalog.Change | None:
    """The change of a key, if it cannot stay."""
    for package in goal.packages:
        change = catalog.replacement(package, key)
        if change is None:
            continue
        exists = key in goal.schema_of(package)
        if exists and not (_deprecated(change, goal) and all(goal.takes(target) for target in change.targets)):
            continue
        if not exists and not _meant(package, key, goal):
            continue
        return change
    return None


def _meant(package: str, key: str, goal: Goal) -> bool:
    """Whether a key means that of a package that removed it, although another package has one of that name: the engine's own
    comes first, and otherwise only if the package had the key before the upgrade."""
    if not goal.takes(key):
        return True
    owner = next((candidate for candidate in goal.packages if key in goal.schema_of(candidate)), package)
    return goal.packages.index(package) < goal.packages.index(owner) and goal.had(package, key)


def _deprecated(change: catalog.Change, goal: Goal) -> bool:
    at = change.deprecated
    return bool(at and change.targets and catalog.numbers(at) <= catalog.numbers(goal.facts(change.package)))


def _value(key: str, value: Any, goal: Goal, reasons: dict[str, None], sources: dict[str, None]) -> dict[str, Any]:
    """The key with its current value, if the value was renamed."""
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
    """A key that does not exist after the upgrade, and has no known replacement."""
    for package in goal.packages:
        history = catalog.key_history(package, key)
        if history is None:
            continue
        if not history.until:
            return Step(key, None, f"added in {package} {history.since}")
        return Step(key, None, f"removed in {package} {history.until}")
    return Step(key, None, f"no known version of {' or '.join(goal.packages)} has it")


def _without_clash(step: Step, values: Mapping[str, Any], goal: Goal) -> Step:
    """If a key to write exists already: fine if it has the same value or the default, else the user must decide."""
    also = []
    for name, value in (step.becomes or {}).items():
        if name == step.key or name not in values:
            continue
        present = values[name]
        if present not in (value, goal.schema.get(name, {}).get("default")):
            return Step(step.key, None, f"`{name}` is set too, to another value", step.source)
        also.append(name)
    return Step(step.key, step.becomes, step.reason, step.source, tuple(also))


def defaults(values: Mapping[str, Any], goal: Goal) -> Iterator[Default]:
    """Keys that are not set and whose default changed, if the old default is known."""
    for package in goal.packages:
        if package not in goal.before:
            continue
        before = catalog.schema(package, goal.before[package])
        for key, fact in goal.schema_of(package).items():
            old = before.get(key, {})
            comparable = "default" in fact and "default" in old
            if key not in values and comparable and fact["default"] != old["default"] and key not in _LITTLE:
                history = catalog.key_history(package, key)
                since = history.defaults()[-1][0] if history else ""
                yield Default(key, package, old["default"], fact["default"], since)


_LITTLE = frozenset({"lr_scheduler_kwargs", "fsdp", "hub_private_repo", "gradient_checkpointing", "warmup_ratio",
                     "include_num_input_tokens_seen", "trackio_space_id"})  # fmt: skip
"""Keys whose new default is spelled differently and means the same."""
