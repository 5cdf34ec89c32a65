"""The inverse of the overlay: parameters that correspond to a key, a member, or an option of a member.

The only table is the engine's overlay (engines/<name>/overlay.toml); what it lowers by a function is inverted in
`inverse`. A parameter without a key goes into the passthrough block; one that would have no effect is noted and left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ftdsl import catalog
from ftdsl.catalog.vocabulary import Key, vocabulary
from ftdsl.credentials import secret_in
from ftdsl.engines.shared.overlay import entries
from ftdsl.importers.draft import StageDraft
from ftdsl.importers.values import number
from ftdsl.language.resolve.keys import find
from ftdsl.language.types import parse_type
from ftdsl.language.values import Amount, Term
from ftdsl.recipe.settings import METHODS

Entry = Mapping[str, Any]


def tables(draft: StageDraft) -> None:
    """Every key of the stage's kind that no function lowers."""
    for key, entry in entries(draft.engine, draft.kind):
        if "rule" not in entry and draft.may_have(key) and _counts(draft, key):
            _entry(draft, key, entry)


def _counts(draft: StageDraft, key: str) -> bool:
    """Keys of a method count under that method only, and those of `quantize` when something is quantised."""
    block = key.partition(".")[0]
    return block not in (*METHODS, "quantize") or block in draft.blocks


def _entry(draft: StageDraft, key: str, entry: Entry) -> None:
    if "members" in entry and _member(draft, key, entry):
        return
    for to in entry["to"]:
        name, _, function = to.partition(":")
        if "." in name or name == "own" or name in _switches(entry):
            continue
        if draft.given(name) and name not in draft.used:
            _plain(draft, key, entry, name, function)
        break  # `members` writes the others, or they belong to another file


def _switches(entry: Entry) -> frozenset[str]:
    """Parameters that members set: they do not hold a key's value themselves, unless the overlay maps values too."""
    parameters = {text.partition("=")[0] for texts in entry.get("set", {}).values() for text in texts}
    return frozenset() if "map" in entry else frozenset(parameters)


def _plain(draft: StageDraft, key: str, entry: Entry, name: str, function: str) -> None:
    value = draft.raw(name)
    word = find(draft.kind, tuple(key.split(".")))
    assert isinstance(word, Key)
    for member, written in entry.get("map", {}).items():
        if written == value or (written == "null" and value is None):
            draft.set(key, Term(member))
            return
    if value is None:
        return  # `null` is what the engine has anyway
    try:
        if word.type == "path" and isinstance(value, str):
            value = draft.paths.seen(value)
        draft.set(key, typed(back(value, function), word))
    except (TypeError, ValueError):
        draft.note(name, f"`{value}` is not something `{key}` can be")


def back(value: Any, function: str) -> Any:
    """The inverse of the overlay's `key:fn`. Raises: ValueError."""
    if function == "csv":
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if function == "not":
        return not value
    if function != "gb":
        return value
    size = number(value)
    if size is None:
        raise ValueError(value)
    return size * 10**9


_SWITCHES = {"true": True, "yes": True, "all": True, "non_padding": True, "false": False, "no": False}


def typed(value: Any, word: Key) -> Any:
    """A plain value as the language represents it at this key. Raises: ValueError, TypeError where it cannot be one."""
    kind = parse_type(word.type)
    names = {kind.name, *(option.name for option in kind.options)}
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, str) and "bool" in names and (switch := _SWITCHES.get(value.lower())) is not None:
        return switch
    if isinstance(value, str) and ("member" in names or (kind.item and kind.item.name == "member")):
        return Term(value)
    if (
        isinstance(value, str)
        and names & {"int", "number", "count", "rate", "share", "bytes", "time"}
        and "none" not in names
    ):
        return float(value)
    unit: Any = "steps" if "steps" in names else "rate" if names & {"level", "part"} else ""
    if unit:
        if (amount := number(value)) is None:
            raise ValueError(value)
        return Amount(value if isinstance(value, int) else amount, unit)
    return value


# --- members


def _member(draft: StageDraft, key: str, entry: Entry) -> bool:
    """The member whose parameters are all set; False when the key has to be read in another way."""
    sets = {member: dict(_pairs(entry, member)) for member in entry["members"]}
    matching = [member for member in sets if _matches(draft, entry, sets, member)]
    if matching:
        member = max(matching, key=lambda candidate: len(sets[candidate]))  # nf4 sets more than int8 does
        draft.used.update(sets[member])
        for name in sets[member]:
            if not draft.given(name):
                draft.reasons[name] = f"`{member}` needs it"
        draft.set(key, Term(member, _options(draft, key, entry, member)))
        _idle(draft, entry, member)
        return True
    switches = {name for pairs in sets.values() for name in pairs}
    plain = next((member for member, pairs in sets.items() if not pairs), None)
    mapped = entry["to"][0].partition(":")[0] if "map" in entry else ""
    if plain and any(draft.given(name) for name in switches - {mapped}) and not (mapped and draft.given(mapped)):
        draft.set(key, Term(plain))
    draft.used.update(name for name in switches - {mapped} if draft.given(name))
    _idle(draft, entry, "")
    return not mapped


def _matches(draft: StageDraft, entry: Entry, sets: Mapping[str, Mapping[str, Any]], member: str) -> bool:
    """All that the member sets is set, or the switch that only this member turns on (`fp8`, with or without `bf16`)."""
    pairs = {name: value for name, value in sets[member].items() if _asks(entry, name)}
    other_members = [pairs_of_other for name, pairs_of_other in sets.items() if name != member]
    own = {
        name: value
        for name, value in pairs.items()
        if value is True and not any(name in pairs_of_other for pairs_of_other in other_members)
    }
    return any(draft.given(name) for name in pairs) and (
        all(_is(draft, name, value) for name, value in pairs.items())
        or (bool(own) and all(_is(draft, name, value) for name, value in own.items()))
    )


def _asks(entry: Entry, name: str) -> bool:
    """Whether a parameter determines the member: `optim`, which GaLore needs, does not determine GaLore."""
    return not ("map" in entry and name == entry["to"][0].partition(":")[0])


def _pairs(entry: Entry, member: str) -> Iterator[tuple[str, Any]]:
    for text in entry.get("set", {}).get(member, ()):
        name, _, given = text.partition("=")
        yield name, json.loads(given) if given in ("true", "false") else given


def _is(draft: StageDraft, name: str, wanted: Any) -> bool:
    return draft.config.on(name) if wanted is True else draft.config.value(name) == wanted


def _options(draft: StageDraft, key: str, entry: Entry, member: str) -> dict[str, Any]:
    word = find(draft.kind, tuple(key.split(".")))
    assert isinstance(word, Key)
    known = word.members[member].options if word.members and member in word.members else {}
    usual = dict(_pairs(entry, member))
    options: dict[str, Any] = {}
    for option, name in entry.get("opts", {}).get(member, {}).items():
        if not draft.given(name) or draft.raw(name) is None or (name in usual and draft.raw(name) == usual[name]):
            continue
        spellings = entry.get("values", {}).get(member, {})
        options[option] = _option(draft, draft.raw(name), known.get(option, Key(option, "any")), spellings)
    return options


def _option(draft: StageDraft, value: Any, word: Key, spellings: Mapping[str, Any]) -> Any:
    """A parameter's value as the option of a member: one of the option's own members, a list, a path, or as it is."""
    if (name := next((name for name, theirs in spellings.items() if theirs == value), None)) is not None:
        return Term(name)
    if "exact" in word.type and value == -1:
        return Term("exact")
    if isinstance(value, str) and ("list" in word.type or (word.type == "any" and "," in value)):
        return back(value, "csv")
    if word.type == "path":
        return draft.paths.seen(str(value))
    return typed(value, word) if word.type != "any" else value


def _idle(draft: StageDraft, entry: Entry, chosen: str) -> None:
    """Options of members that were not chosen do nothing."""
    live = set(entry.get("opts", {}).get(chosen, {}).values())
    for member, options in entry.get("opts", {}).items():
        for name in options.values():
            if (
                member != chosen
                and name not in live
                and name not in draft.used
                and draft.given(name)
                and name != "optim"
            ):
                if draft.raw(name) == draft.default(name):
                    continue  # the default
                switch = " or ".join(n for n, v in _pairs(entry, member) if v is True) or f"`{member}`"
                draft.note(name, f"has no effect without `{switch}`")


# --- what is left


def rest(draft: StageDraft) -> None:
    """Parameters that no key covers: passed through where the recipe allows it, else noted with the reason."""
    for name, setting in draft.config.settings.items():
        if name in draft.used:
            continue
        parameter_status = catalog.parameter_status(draft.engine, name)
        if parameter_status is None and draft.config.trainer and name in draft.config.schema:
            parameter_status = catalog.ParameterStatus("passthrough")
        if parameter_status is None:
            continue  # named by `unknown`
        if why := secret_in(name, setting.value):
            draft.note(name, f"{why}: it belongs into the environment, never into a file: `env {{ NAME = secret(…) }}`")
        elif setting.value is None or setting.value == draft.default(name):
            draft.used.add(name)  # what the engine does anyway
        elif parameter_status.kind == "passthrough":
            draft.used.add(name)
            draft.passed[name] = setting.value
        elif parameter_status.kind == "dead":
            draft.note(name, "has no effect in LLaMA-Factory 0.9.5")
        elif parameter_status.kind == "derived":
            draft.note(name, "is worked out from the recipe")
        else:
            draft.note(name, _why_not(draft, parameter_status.word))


def _why_not(draft: StageDraft, word: str) -> str:
    block = word.partition(".")[0]
    if block == "lora" and not draft.blocks & set(METHODS) and draft.training:
        return "has no effect: the adapter that is trained further has its own"
    if block in METHODS and block not in draft.blocks:
        return f"has no effect here: it belongs to `{block}`, and the method is another"
    if block == "quantize" and block not in draft.blocks:
        return "has no effect without `quantization_bit`"
    if not draft.may_have(word) and word in {
        key for kind in vocabulary().stage_kinds for key in vocabulary().keys_of(kind)
    }:
        return f"has no effect in a `{draft.kind}` stage"
    if block in {known_block.name for known_block in vocabulary().blocks_in("sft")} and not draft.may_have(word):
        return f"has no effect in a `{draft.kind}` stage"
    return f"`{word}` cannot have this value"
