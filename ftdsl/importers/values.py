"""Values as a person would write them in a recipe: units instead of bare numbers, quotes where the type wants them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from ftdsl.catalog.vocabulary import Key, vocabulary
from ftdsl.language.types import Type, parse_type
from ftdsl.language.values import Amount, Range, Secret, StageRef, Term

ANY = Key(name="", type="any")
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = ("let", "param", "include", "from", "in", "as", "true", "false", "null")


def written(value: Any, key: Key = ANY) -> str:
    """The text of a value at a key. Lists of one item are written without brackets where the type allows both."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Amount):
        return _amount(value)
    if isinstance(value, Term):
        return _call(value, key)
    if isinstance(value, Secret):
        return f"secret({quoted(value.variable)})"
    if isinstance(value, StageRef):
        return f"{value.stage}.{value.part}" if value.part else value.stage
    if isinstance(value, Range):
        return f"{written(value.low, key)} .. {written(value.high, key)}"
    if isinstance(value, list | tuple):
        return _list(list(value), key)
    kinds = frozenset(_names(parse_type(key.type)))
    return _number(value, key, kinds) if isinstance(value, int | float) else _text(str(value), kinds)


def _names(kind: Type) -> Iterator[str]:
    """All the types that may stand at a key: of a union each, of a list its items too."""
    yield kind.name
    for inner in (*kind.options, *([kind.item] if kind.item else [])):
        yield from _names(inner)


def _list(items: list[Any], key: Key) -> str:
    kinds = parse_type(key.type)
    single = any(kind.name in ("list", "data") for kind in (kinds, *kinds.options))
    if len(items) == 1 and single:
        return written(items[0], key)
    return f"[{', '.join(written(item, key) for item in items)}]"


def _call(value: Term, key: Key) -> str:
    options, positional = _signature(value, key)
    given = {name: option for name, option in value.options.items() if option is not None}
    parts = [written(given.pop(name), options.get(name, ANY)) for name in positional if name in given][
        : len(positional)
    ]
    parts += [f"{name} = {written(option, options.get(name, ANY))}" for name, option in given.items()]
    return f"{value.name}({', '.join(parts)})" if parts else value.name


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


def _amount(value: Amount) -> str:
    number = value.number
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


def _number(value: float, key: Key, kinds: frozenset[str]) -> str:
    if key.name.endswith("_pixels") and value > 0 and math.isqrt(int(value)) ** 2 == value:
        return f"{math.isqrt(int(value))} * {math.isqrt(int(value))}"
    for kind, write in _BY_TYPE.items():
        if kind in kinds:
            return write(value)
    return plain(value)


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


def _text(text: str, kinds: frozenset[str]) -> str:
    bare = _BARE.fullmatch(text) and text not in _RESERVED and not kinds & {"text", "path", "script", "data", "model"}
    return text if bare else quoted(text)


def quoted(text: str) -> str:
    """A string that reads back as `text`: raw where braces or backslashes would need escapes."""
    awkward = re.search(r"[\\{}\"]", text.replace("${", "")) or "${" in text
    if awkward and "'" not in text and "\n" not in text:
        return f"'{text}'"
    escaped = (
        text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    )
    return '"' + re.sub(r"[{}]", lambda brace: brace[0] * 2, escaped) + '"'
