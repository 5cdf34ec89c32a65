"""Values as a person would write them in a recipe: units instead of bare numbers, quotes where the type wants them.

Given: typed values. Gives: expressions of the language's tree, never text put together: what a value holds stays a value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cache
from typing import Any

from ftdsl import catalog
from ftdsl.catalog.vocabulary import STAGE_KINDS, Key, vocabulary
from ftdsl.importers.bash_words import CLOSE, OPEN
from ftdsl.language import tree
from ftdsl.language.printing import NOWHERE, UnwritableError, call, constant, printed, quantity, ref, text, word
from ftdsl.language.types import Type, parse_type
from ftdsl.language.values import Amount, Range, Secret, StageRef, Term

ANY = Key(name="", type="any")
_TEXTS = frozenset(("text", "path", "script", "name", "variable", "any"))
"""Types that take a text in quotes."""
_QUOTED = frozenset(("text", "path", "script", "data", "model", "variable"))
"""Types that take it in quotes only."""


def written(value: Any, key: Key = ANY) -> str:
    """The text of a value at a key. Raises: UnwritableError."""
    return printed(expression(value, key))


def expression(value: Any, key: Key = ANY) -> tree.Expression:
    """A value at a key. Lists of one item are written without brackets where the type allows both.

    Raises: UnwritableError for what the language has no way to say, with the reason.
    """
    if value is None or isinstance(value, bool):
        return constant(value)
    if isinstance(value, Amount):
        return quantity(_amount(value))
    if isinstance(value, Term):
        return _call(value, key)
    if isinstance(value, Secret):
        return call("secret", [text(value.variable)], {})
    if isinstance(value, StageRef):
        return ref(value.stage, value.part) if value.part else ref(value.stage)
    if isinstance(value, Range):
        return tree.Binary("..", expression(value.low, key), expression(value.high, key), NOWHERE)
    if isinstance(value, list | tuple):
        return _list(list(value), key)
    kinds = frozenset(_names(parse_type(key.type)))
    if isinstance(value, int | float):
        return _number(value, key, kinds)
    if isinstance(value, str):
        return _text(value, key, kinds)
    raise UnwritableError("the language has no tables" if isinstance(value, Mapping) else "it is no value of a recipe")


def _names(kind: Type) -> Iterator[str]:
    """All the types that are possible at a key: of a union each, of a list its items too."""
    yield kind.name
    for inner in (*kind.options, *([kind.item] if kind.item else [])):
        yield from _names(inner)


def _list(items: list[Any], key: Key) -> tree.Expression:
    kinds = parse_type(key.type)
    single = any(kind.name in ("list", "data") for kind in (kinds, *kinds.options))
    if len(items) == 1 and single:
        return expression(items[0], key)
    return tree.ListOf(tuple(expression(item, key) for item in items), NOWHERE)


def _call(value: Term, key: Key) -> tree.Expression:
    """Raises: UnwritableError for a member that is no name, or one that would be taken for something else here."""
    options, positional = _signature(value, key)
    given = {name: option for name, option in value.options.items() if option is not None}
    unnamed = [expression(given.pop(name), options.get(name, ANY)) for name in positional if name in given]
    named = {name: expression(option, options.get(name, ANY)) for name, option in given.items()}
    if not unnamed and not named:
        _free(value.name, key)
    return call(value.name, unnamed, named)


def _signature(value: Term, key: Key) -> tuple[Mapping[str, Key], tuple[str, ...]]:
    """Options of a member of the key, or of a function for the key's use."""
    if key.members and value.name in key.members:
        member = key.members[value.name]
        return member.options, member.positional
    if key.catalog == "gpus":
        return {"memory": Key("memory", "bytes")}, ("memory",)
    uses = vocabulary().functions.get(value.name, {})
    kinds = [name for name in _names(parse_type(key.type)) if name in uses]
    use = uses.get(kinds[0]) if kinds else next(iter(uses.values()), None)
    return (use.options, use.positional) if use else ({}, ())


# --- numbers


def number(value: Any) -> float | None:
    """A value as a finite number, written as one or as text; None for anything else."""
    try:
        result = None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if result is not None and math.isfinite(result) else None


def whole(text: str) -> int | None:
    """A text of digits as a number; None for anything else, and for what counts nothing any more."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None


def _amount(value: Amount) -> str:
    """Raises: UnwritableError."""
    number = value.number
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise UnwritableError("it is no number")
    match value.unit:
        case "share":
            return f"{plain(number * 100)}%"
        case "time":
            return _time(number)
        case "epochs":
            return f"{plain(number)} epoch{'s' * (number != 1)}"
        case "steps":
            return f"{plain(number)} step{'s' * (number != 1)}"
        case "tokens":
            return f"{_count(number)} tokens"
        case "count":
            return _count(number)
    return _rate(number)


def _number(value: float, key: Key, kinds: frozenset[str]) -> tree.Expression:
    if not math.isfinite(value):
        raise UnwritableError("it is no number")
    if key.name.endswith("_pixels") and value > 0 and math.isqrt(int(value)) ** 2 == value:
        return quantity(f"{math.isqrt(int(value))} * {math.isqrt(int(value))}")
    write = next((write for kind, write in _BY_TYPE.items() if kind in kinds), plain)
    return quantity(write(value))


def plain(number: float) -> str:
    """Without an exponent where that is short, and without `.0`: `64`, `0.05`, `1e-8`."""
    if isinstance(number, float) and number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    if isinstance(number, float) and number and abs(number) < 1e-3:
        return _rate(number)
    return f"{number:.12g}" if isinstance(number, float) else str(number)


def _rate(number: float) -> str:
    """`1e-4`, `2.5e-5`; what is not small stays as it is."""
    if not number or abs(number) >= 0.01:
        return plain(number) if number == int(number) else f"{number:.12g}"
    sign, digits, exponent = Decimal(repr(float(number))).normalize().as_tuple()
    mantissa = "".join(map(str, digits))
    power = int(exponent) + len(mantissa) - 1
    body = mantissa[0] + (f".{mantissa[1:]}" if len(mantissa) > 1 else "")
    return f"{'-' * sign}{body}e{power}"


def _count(number: float) -> str:
    """`2Ki`, `100k`, `1M`; small numbers and odd ones as they are."""
    if number != int(number):
        return plain(number)
    whole = int(number)
    for unit, factor in (("Mi", 2**20), ("Ki", 2**10), ("M", 10**6), ("k", 10**3)):
        if whole and whole % factor == 0 and whole >= {"k": 10_000}.get(unit, factor):
            return f"{whole // factor}{unit}"
    return str(whole)


def _share(number: float) -> str:
    return f"{plain(number * 100)}%"


def _time(seconds: float) -> str:
    for unit, factor in (("h", 3600), ("min", 60)):
        if seconds and seconds % factor == 0:
            return f"{plain(seconds / factor)}{unit}"
    return f"{plain(seconds)}s"


def _bytes(number: float) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number % factor == 0:
            return f"{plain(number / factor)}{unit}"
    return f"{plain(number / 1000)}kB"


_BY_TYPE = {"bytes": _bytes, "time": _time, "rate": _rate, "count": _count, "share": _share}


# --- texts


def _text(content: str, key: Key, kinds: frozenset[str]) -> tree.Expression:
    """Bare where the key takes names, in quotes where it takes texts; names of parameters in it are in braces.

    Raises: UnwritableError where it is neither.
    """
    if OPEN in content and kinds & _TEXTS:
        return tree.Text(tuple(_parts(content)), NOWHERE)
    if not kinds & _QUOTED:
        try:
            _free(content, key)
            return ref(content)
        except UnwritableError:
            if not kinds & _TEXTS:
                raise
    return text(content)


def _parts(content: str) -> Iterator[str | tree.Hole]:
    for at, part in enumerate(re.split(f"{OPEN}(\\w+){CLOSE}", content)):
        if at % 2:
            yield tree.Hole((word(part),), NOWHERE)
        elif part:
            yield from (piece for piece in text(part).parts)


def _free(name: str, key: Key) -> None:
    """A bare name means what is in scope before it means a member: one that this key does not know must not be captured.

    Raises: UnwritableError.
    """
    if name in in_scope() and name not in (key.members or ()) and name not in _catalog(key):
        raise UnwritableError(f"`{name}` means something else in a recipe")


@cache
def in_scope() -> frozenset[str]:
    """Keys, blocks and kinds of stages, and what an import asks for."""
    language = vocabulary()
    blocks = language.block_names()
    return frozenset(
        ["base", "rows", *STAGE_KINDS, *blocks, *(key for name in blocks for key in language.block(name).keys)]
    )


@cache
def meaning() -> frozenset[str]:
    """Words that mean something where a value is wanted: names of keys, blocks and members."""
    language = vocabulary()
    keys = (key for name in language.block_names() for key in language.block(name).keys.values())
    return (in_scope() - frozenset(STAGE_KINDS)) | {member for key in keys for member in key.members or ()}


def _catalog(key: Key) -> list[str]:
    return catalog.names(key.catalog) if key.catalog else []
