"""Raw values to plain data of a type: units are judged, members known, bounds kept; or a message of what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ftdsl.catalog.vocabulary import Key, Member
from ftdsl.diagnostics import Edit, Fix, Sink, guessed
from ftdsl.language import tree
from ftdsl.language.resolve import calls
from ftdsl.language.resolve.raw import WRONG, Bare, Between, Broken, Choice, Invoke, Lit, Lst, Num, Raw, Stg, Str
from ftdsl.language.types import Type, parse_type, said
from ftdsl.language.units import exact
from ftdsl.language.values import Amount, AmountUnit, Range, StageRef, Term
from ftdsl.source import Span

if TYPE_CHECKING:
    from ftdsl.language.resolve.evaluate import Evaluator


def coerce(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    """`raw` as data of `kind` under the bounds of `key`; WRONG and a diagnostic when it does not fit."""
    if isinstance(raw, Broken):
        return WRONG
    if kind.options:
        return _union(ev, raw, kind, key, sink)
    if isinstance(raw, Invoke) and raw.name in ("env", "secret"):
        return calls.environment(ev, raw, kind, key, sink)
    data = _HANDLERS.get(kind.name, _by_use)(ev, raw, kind, key, sink)
    return WRONG if data is WRONG else _bounded(data, key, raw, sink)


def item_type(kind: Type) -> Type | None:
    """The type of the items where a list may stand."""
    if kind.name == "list":
        return kind.item
    if kind.name in ("data", "any"):
        return kind
    return next((item for option in kind.options if (item := item_type(option))), None)


# --- messages


def _wrong(raw: Raw, kind: Type, key: Key, sink: Sink, help: str = "", fix: Fix | None = None) -> Any:
    text = f"`{key.name}` takes {said(kind)}, not {_shown(raw)}"
    if isinstance(raw, Num) and not raw.dimension and kind.name in _NEED_UNIT:
        sink.error("FT062", f"`{key.name}` needs a unit: {said(kind)}", raw.span, help=help)
    else:
        sink.error("FT060", text, raw.span, help=help, fix=fix)
    return WRONG


_LITERALS = {True: "true", False: "false", None: "null"}


def _shown(raw: Raw) -> str:
    match raw:
        case Lst():
            return "a list"
        case Stg():
            return f"the stage `{raw.ref.stage}`"
        case Invoke():
            return f"`{raw.name}(…)`"
        case Between():
            return "a range"
        case Str():
            return "a text"
        case Lit():
            return f"`{_LITERALS[raw.value]}`"
        case Num():
            return f"`{raw.written}`"
        case Bare():
            return f"`{raw.name}`"
    return "this"


def _unknown(raw: Bare | Invoke, names: list[str], key: Key, sink: Sink, what: str = "") -> Any:
    from ftdsl.diagnostics.suggest import closest

    span = raw.span if isinstance(raw, Bare) else raw.call.path[0].span.to(raw.call.path[-1].span)
    guess = closest(raw.name, names)
    fix = guessed(span, guess)
    label = f"did you mean `{guess}`?" if guess else ""
    shown = ", ".join(names[:14]) + (", …" if len(names) > 14 else "")
    code, text = (
        ("FT002", f"`{key.name}` has no member `{raw.name}`") if not what else ("FT040", f"{what} `{raw.name}`")
    )
    if instead := key.instead.get(raw.name):
        sink.error(code, text, span, help=instead)
    else:
        sink.error(code, text, span, label=label, help=f"one of: {shown}" if names else "", fix=fix)
    return WRONG


# --- unions


def _union(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    names = {option.name for option in kind.options}
    if isinstance(raw, Num) and not raw.dimension and raw.number >= 1 and "share" in names and names & {*_NEED_UNIT}:
        text = f"`{key.name}` needs a unit: {said(kind)}"  # all of it, or one of them?
        sink.error("FT062", text, raw.span, help=f"write `{raw.written} steps`, or a share such as `100%`")
        return WRONG
    failed: list[tuple[Type, Sink]] = []
    for option in kind.options:
        attempt = Sink()
        with ev.tracing() as trace:
            data = coerce(ev, raw, option, key, attempt)
        if data is not WRONG:
            ev.trace.absorb(trace)
            return data
        failed.append((option, attempt))
    for option, attempt in failed:
        if any(found.code not in ("FT060", "FT062", "FT002", "FT040") for found in attempt):
            return coerce(ev, raw, option, key, sink)
    if isinstance(raw, Bare | Invoke):
        for option, attempt in failed:
            if any(found.code in ("FT002", "FT040") for found in attempt):
                return coerce(ev, raw, option, key, sink)
    mendable = [found for _, attempt in failed for found in attempt if found.fix is not None and found.fix.safe]
    if mendable:
        return _wrong(raw, kind, key, sink, mendable[0].help, mendable[0].fix)
    return _wrong(raw, kind, key, sink)


# --- scalars


def _bool(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    if isinstance(raw, Lit) and isinstance(raw.value, bool):
        return raw.value
    guess = {"True": "true", "yes": "true", "on": "true", "False": "false", "no": "false", "off": "false"}
    if isinstance(raw, Bare) and (word := guess.get(raw.name)):
        return _wrong(raw, kind, key, sink, f"write `{word}`", Fix(f"write `{word}`", (Edit(raw.span, word),)))
    return _wrong(raw, kind, key, sink)


_DIMENSIONS: Mapping[str, tuple[str, ...]] = {
    "int": ("", "count"),
    "count": ("", "count"),
    "number": ("", "count"),
    "rate": ("",),
    "share": ("", "share"),
    "bytes": ("bytes",),
    "time": ("time",),
    "money": ("money",),
}
_NEED_UNIT = ("bytes", "time", "money", "span", "steps", "epochs", "tokens", "every", "warmup")


def _number(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    if isinstance(raw, Str) and raw.plain is not None and raw.plain.replace(".", "", 1).isdigit():
        fix = Fix("drop the quotes", (Edit(raw.span, raw.plain or ""),))
        return _wrong(raw, kind, key, sink, f"write `{raw.plain}` without quotes", fix)
    if not isinstance(raw, Num):
        return _wrong(raw, kind, key, sink)
    if raw.dimension not in _DIMENSIONS[kind.name] and raw.number != 0:
        return _wrong(raw, kind, key, sink)
    if kind.name in ("int", "count", "bytes"):
        if raw.number != int(raw.number):
            return _wrong(raw, kind, key, sink)
        return int(raw.number)
    return exact(raw.number) if kind.name == "number" else float(raw.number)


def _amount(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    units = _AMOUNTS[kind.name]
    if isinstance(raw, Num) and raw.dimension in units:
        unit: AmountUnit = raw.dimension  # type: ignore[assignment]
        return Amount(raw.number, unit)
    if isinstance(raw, Num) and raw.number == 0 and kind.name in ("warmup", "steps") and not raw.dimension:
        return Amount(0, "steps")
    if isinstance(raw, Bare) and raw.name in _SPECIAL.get(kind.name, ()):
        return Term(raw.name)
    if isinstance(raw, Num) and not raw.dimension:
        if "share" in units and 0 < raw.number < 1:
            return _wrong(raw, kind, key, sink, f"write `{raw.number * 100:g}%`")
        example = {"span": "epochs", "every": "steps", "warmup": "steps"}.get(kind.name, units[0])
        return _wrong(raw, kind, key, sink, f"write `{raw.written} {example}`")
    return _wrong(raw, kind, key, sink)


_AMOUNTS: Mapping[str, tuple[str, ...]] = {
    "span": ("epochs", "steps", "tokens", "time"),
    "every": ("steps", "epochs", "share", "time"),
    "warmup": ("share", "steps"),
    "steps": ("steps",),
    "epochs": ("epochs",),
    "tokens": ("tokens",),
}
_SPECIAL = {"every": ("never", "best")}


def _level(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    """A share or a number: `10%` of something, or `1e-6` itself (`part`: or `500` of them)."""
    if isinstance(raw, Num) and raw.dimension == "share":
        return Amount(raw.number, "share")
    if isinstance(raw, Num) and raw.dimension in ("", "count"):
        return Amount(raw.number, "count" if kind.name == "part" else "rate")
    return _wrong(raw, kind, key, sink)


def _metric(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    """The name of a metric (`eval_loss`), or that of a stage (`sft.eval_loss`)."""
    if isinstance(raw, Stg):
        return raw.ref
    return raw.name if isinstance(raw, Bare) else _wrong(raw, kind, key, sink)


def _text(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    reads = kind.name == "path" and key.name != "to"  # where a result is put is no result
    if kind.name == "script":  # one that is written is read as it is: here a value would be part of the code
        return _wrong(raw, kind, key, sink, 'write the script itself: `run = "…"`')
    if isinstance(raw, Str):
        if raw.plain is not None:
            return raw.plain
        if reads and len(raw.parts) == 1 and isinstance(raw.parts[0], StageRef):
            return raw.parts[0]
        name = next(p.stage for p in raw.parts if isinstance(p, StageRef))
        sink.error("FT060", f"what `{name}` makes is known only when it has run", raw.span)
        return WRONG
    if isinstance(raw, Stg) and reads:
        return raw.ref
    if isinstance(raw, Bare):
        fix = Fix("put it in quotes", (Edit(raw.span, f'"{raw.name}"'),))
        return _wrong(raw, kind, key, sink, f'write `"{raw.name}"`', fix)
    return _wrong(raw, kind, key, sink)


def _name(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    text = raw.name if isinstance(raw, Bare) else raw.plain if isinstance(raw, Str) else None
    if text is None:
        return _wrong(raw, kind, key, sink)
    names = calls.catalog_names(ev, key)
    if names and text not in names:
        bare = raw if isinstance(raw, Bare) else Bare((tree.Word(text, raw.span),), raw.span)
        return _unknown(bare, names, key, sink)
    return text


# --- members, functions, stages


def _member(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    members: Mapping[str, Member] = key.members or {}
    if isinstance(raw, Choice):
        return raw.value
    if isinstance(raw, Str) and raw.plain in members:
        fix = Fix("drop the quotes", (Edit(raw.span, raw.plain or ""),))
        return _wrong(raw, kind, key, sink, f"write `{raw.plain}` without quotes", fix)
    if isinstance(raw, Lit) and raw.value is not None and (word := "true" if raw.value else "false") in members:
        return Term(word)
    if not isinstance(raw, Bare | Invoke):
        return _wrong(raw, kind, key, sink)
    if raw.name not in members and key.catalog and raw.name in calls.catalog_names(ev, key):
        return Term(raw.name) if isinstance(raw, Bare) else calls.catalog_term(ev, raw, key, sink)
    if raw.name not in members:
        return _unknown(raw, [*members, *calls.catalog_names(ev, key)], key, sink)
    if isinstance(raw, Bare):
        return Term(raw.name)
    member = members[raw.name]
    options = calls.arguments(ev, raw, member.options, member.positional, sink)
    return WRONG if options is WRONG else Term(raw.name, options)


def _by_use(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    """A type that functions give: `model`, `data`, `push`, bounds, goals, phases."""
    if isinstance(raw, Choice):
        return raw.value
    if isinstance(raw, Stg) and kind.name in ("model", "stage"):
        return raw.ref
    if isinstance(raw, Invoke):
        return calls.function(ev, raw, kind.name, key, sink)
    if isinstance(raw, Bare) and kind.name in ("model", "stage"):
        return _unknown(raw, list(ev.names.stages), key, sink, "there is no stage or value")
    if isinstance(raw, Str) and raw.plain and kind.name in ("model", "data"):
        return _place_in_quotes(raw, raw.plain, kind, key, sink)
    return _wrong(raw, kind, key, sink)


def _place_in_quotes(raw: Str, text: str, kind: Type, key: Key, sink: Sink) -> Any:
    """A hub id is `organisation/name`, at most one slash and no file's ending; anything else is a path."""
    is_id = re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", text) and not text.endswith(
        (".json", ".jsonl", ".csv", ".parquet")
    )
    meant = f"{'hf' if is_id else 'file'}({raw.span.text})"  # as it is written, escapes and all
    return _wrong(raw, kind, key, sink, f"write `{meant}`", Fix(f"write `{meant}`", (Edit(raw.span, meant),)))


def _data(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    """Always a list: a source, a data stage or a part of one, or several of these."""
    if isinstance(raw, Lst):
        items = [_data(ev, item, kind, key, sink) for item in raw.items]
        return WRONG if any(item is WRONG for item in items) else [part for item in items for part in item]
    if isinstance(raw, Stg):
        return [raw.ref]
    if isinstance(raw, Bare):
        known = [name for name, kind in ev.names.stages.items() if kind == "data"]
        return _unknown(raw, known, key, sink, "there is no data called")
    data = _by_use(ev, raw, kind, key, sink)
    return WRONG if data is WRONG else [data]


def _list(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    item = kind.item or Type("any")
    raws = raw.items if isinstance(raw, Lst) else (raw,)
    items = []
    for one in raws:
        if isinstance(one, Bare) and item.name in ("text", "path"):
            items.append(one.name)
        else:
            items.append(coerce(ev, one, item, key, sink))
    return WRONG if any(one is WRONG for one in items) else items


def _range(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    if not isinstance(raw, Between):
        return _wrong(raw, kind, key, sink)
    low, high = (coerce(ev, end, kind.item or Type("number"), key, sink) for end in (raw.low, raw.high))
    if low is WRONG or high is WRONG:
        return WRONG
    if low > high:
        sink.error("FT003", "a range goes from low to high", raw.span)
        return WRONG
    return Range(low, high)


def _any(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    """Whatever a tool's own block is given, as plain data."""
    match raw:
        case Lit():
            return raw.value
        case Num():
            return raw.number
        case Bare():
            return raw.name
        case Str():
            return _text(ev, raw, Type("text"), key, sink)
        case Lst():
            items = [_any(ev, item, kind, key, sink) for item in raw.items]
            return WRONG if any(item is WRONG for item in items) else items
    return _wrong(raw, kind, key, sink)


def _fixed(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    """A type of one word: `auto`, `none`, `all`."""
    return Term(kind.name) if isinstance(raw, Bare) and raw.name == kind.name else _wrong(raw, kind, key, sink)


# --- bounds


def _bounded(data: Any, key: Key, raw: Raw, sink: Sink) -> Any:
    values = data if isinstance(data, list) else [data]
    numbers = [v.number if isinstance(v, Amount) else v for v in values]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        if bound := _broken_bound(number, key):
            written = raw.written if isinstance(raw, Num) else str(number)
            share = "share" in key.type and number > 1 and not _broken_bound(number / 100, key)
            help = f"write `{written}%`" if share and "%" not in written else ""
            sink.error("FT003", f"`{key.name}` is {bound}, not `{written}`", raw.span, help=help)
            return WRONG
    return data


def _broken_bound(number: float, key: Key) -> str:
    if key.min is not None and number < key.min:
        return f"at least {_said(key.min, key)}"
    if key.above is not None and number <= key.above:
        return f"more than {_said(key.above, key)}"
    if key.max is not None and number > key.max:
        return f"at most {_said(key.max, key)}"
    if key.below is not None and number >= key.below:
        return f"less than {_said(key.below, key)}"
    return ""


def _said(bound: float, key: Key) -> str:
    return f"{exact(bound * 100)}%" if "share" in key.type and 0 < bound <= 1 else str(exact(bound))


Handler = Callable[["Evaluator", Raw, Type, Key, Sink], Any]

_HANDLERS: Mapping[str, Handler] = {
    "bool": _bool,
    **dict.fromkeys(_DIMENSIONS, _number),
    **dict.fromkeys(_AMOUNTS, _amount),
    "level": _level,
    "part": _level,
    "metric": _metric,
    "text": _text,
    "path": _text,
    "script": _text,
    "variable": _text,
    "name": _name,
    "member": _member,
    "data": _data,
    "list": _list,
    "range": _range,
    "any": _any,
    "auto": _fixed,
    "none": _fixed,
    "all": _fixed,
    "exact": _fixed,
}


def typed_key(name: str, kind: str) -> Key:
    """A key that exists only while a value is being read (a parameter, an argument of a type's own)."""
    parse_type(kind)
    return Key(name=name, type=kind)


__all__ = ["Span", "coerce", "item_type", "typed_key"]
