"""Bounds of values: those of the key, of its type, and those of shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftdsl.catalog.vocabulary import Key
from ftdsl.diagnostics import Sink
from ftdsl.language.resolve.raw import WRONG, Num, Raw
from ftdsl.language.types import Type
from ftdsl.language.units import exact
from ftdsl.language.values import Amount
from ftdsl.source import Span

_LARGEST: Mapping[str, float] = {
    "int": 2**32 - 1,
    "count": 10**15,
    "bytes": 10**18,
    "time": 10**9,
    "money": 10**12,
    "number": 10**30,
    **dict.fromkeys(("span", "steps", "epochs", "tokens", "every", "warmup", "part", "stderrs"), 10**15),
}
"""Upper limits in base units, above which no value is plausible or fits an engine's integers."""


def check_bounds(data: Any, kind: Type, key: Key, raw: Raw, sink: Sink) -> Any:
    """The data if it is within the bounds of its type and key; else WRONG and a diagnostic."""
    for value in data if isinstance(data, list) else [data]:
        number = value.number if isinstance(value, Amount) else value
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        share = kind.name == "share" or (isinstance(value, Amount) and value.unit == "share")
        if bound := _broken_bound(number, kind, key, share=share):
            written = raw.written if isinstance(raw, Num) else str(number)
            is_percentage = (
                "share" in key.type and number > 1 and not _broken_bound(number / 100, kind, key, share=True)
            )
            help = f"write `{written}%`" if is_percentage and "%" not in written else ""
            sink.error("FT003", f"`{key.name}` must be {bound}, not `{written}`", raw.span, help=help)
            return WRONG
    return data


def check_length(items: list[Any], key: Key, span: Span, sink: Sink) -> Any:
    """The items if the list has the length that the key requires; else WRONG and a diagnostic."""
    if key.length is not None and len(items) != key.length:
        sink.error("FT003", f"`{key.name}` takes {key.length} values, not {len(items)}", span)
        return WRONG
    return items


def _broken_bound(number: float, kind: Type, key: Key, *, share: bool) -> str:
    if share:
        for limit, broken, phrase in (
            (key.share_above, number <= (key.share_above or 0), "more than"),
            (key.share_below, number >= (key.share_below or 1), "less than"),
            (0, number < 0, "at least"),
            (1, number > 1, "at most"),
        ):
            if limit is not None and broken and not _stricter(key, limit):
                return f"{phrase} {exact(limit * 100)}%"
    if outside := _outside(number, key):
        return outside
    largest = _LARGEST.get(kind.name, 10**30)
    return f"at most {largest:.10g}".replace("+", "") if number > largest else ""


def _stricter(key: Key, limit: float) -> bool:
    """Whether the key has a bound of its own instead of that of all shares."""
    own_bounds = (key.min, key.above) if limit == 0 else (key.max, key.below)
    return any(bound is not None for bound in own_bounds)


def _outside(number: float, key: Key) -> str:
    if key.min is not None and number < key.min:
        return f"at least {_bound_text(key.min, key)}"
    if key.above is not None and number <= key.above:
        return f"more than {_bound_text(key.above, key)}"
    if key.max is not None and number > key.max:
        return f"at most {_bound_text(key.max, key)}"
    if key.below is not None and number >= key.below:
        return f"less than {_bound_text(key.below, key)}"
    return ""


def _bound_text(bound: float, key: Key) -> str:
    return f"{exact(bound * 100)}%" if "share" in key.type and 0 < bound <= 1 else str(exact(bound))
