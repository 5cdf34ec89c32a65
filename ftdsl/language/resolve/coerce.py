"""Converts raw values to plain data of a type: checks units, members and bounds, or reports what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ftdsl.catalog.vocabulary import ANY_NAME, Key, Member, vocabulary
from ftdsl.diagnostics import Diagnostic, Edit, Fix, Severity, Sink, guessed
from ftdsl.language import tree
from ftdsl.language.resolve import calls
from ftdsl.language.resolve.bounds import check_bounds, check_length
from ftdsl.language.resolve.otherwise import CONSTANTS, known_as, may_be_of_a_fork, named_otherwise
from ftdsl.language.resolve.raw import WRONG, Bare, Between, Broken, Choice, Invoke, Lit, Lst, Num, Raw, Stg, Str
from ftdsl.language.types import Type, describe, parse_type
from ftdsl.language.units import exact, longest_name
from ftdsl.language.values import Amount, AmountUnit, Range, StageRef, Term
from ftdsl.source import Span

if TYPE_CHECKING:
    from ftdsl.language.resolve.evaluate import Evaluator


def coerce(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    """`raw` as data of type `kind` within the bounds of `key`; WRONG and a diagnostic if it does not fit."""
    if isinstance(raw, Broken):
        return WRONG
    if isinstance(raw, Bare) and (word := _constant(raw, kind, key)):
        fix = Fix(f"write `{word}`", (Edit(raw.span, word),))
        sink.error("FT060", f"write `{word}` instead of `{raw.name}`", raw.span, help=f"write `{word}`", fix=fix)
        return WRONG
    if kind.options:
        return _union(ev, raw, kind, key, sink)
    if isinstance(raw, Invoke) and raw.name in ("env", "secret"):
        return calls.environment(ev, raw, kind, key, sink)
    data = _HANDLERS.get(kind.name, _by_use)(ev, raw, kind, key, sink)
    return WRONG if data is WRONG else check_bounds(data, kind, key, raw, sink)


def _constant(raw: Bare, kind: Type, key: Key) -> str:
    """The constant that a word of another language means; "" if the key may take the word itself."""
    word = CONSTANTS.get(raw.name, "")
    if not word or raw.name in (key.members or {}):
        return ""
    kinds = {option.name for option in kind.options or (kind,)}
    if word == "null":
        return "none" if "none" in kinds or "none" in (key.members or {}) else word
    return (
        word
        if "bool" in kinds
        or {"true", "false"} & set(key.members or ())
        or ("any" in kinds and raw.name.lower() in ("true", "false"))
        else ""
    )


def item_type(kind: Type) -> Type | None:
    """The type of the items if the type allows a list; else None."""
    if kind.name == "list":
        return kind.item
    if kind.name in ("data", "any"):
        return kind
    return next((item for option in kind.options if (item := item_type(option))), None)


# --- messages


def _wrong(raw: Raw, kind: Type, key: Key, sink: Sink, help: str = "", fix: Fix | None = None) -> Any:
    text = f"`{key.name}` takes {describe(kind)}, not {_shown(raw)}"
    if isinstance(raw, Num) and not raw.dimension and kind.name in _NEED_UNIT:
        sink.error("FT062", f"`{key.name}` needs a unit: {describe(kind)}", raw.span, help=help)
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


def _unknown(raw: Bare | Invoke, names: list[str], key: Key, sink: Sink, phrase: str = "") -> Any:
    from ftdsl.diagnostics.suggest import closest

    span = raw.span if isinstance(raw, Bare) else raw.call.path[0].span.to(raw.call.path[-1].span)
    same = [name for name in names if name.casefold() == raw.name.casefold()]
    guess = same[0] if len(same) == 1 else known_as(raw.name, key) or closest(raw.name, names)
    fix = Fix(f"write `{guess}`", (Edit(span, guess),)) if same and guess else guessed(span, guess)
    label = f"did you mean `{guess}`?" if guess else ""
    shown = ", ".join(names[:14]) + (", …" if len(names) > 14 else "")
    code, text = (
        ("FT002", f"`{key.name}` has no member `{raw.name}`") if not phrase else ("FT040", f"{phrase} `{raw.name}`")
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
        text = f"`{key.name}` needs a unit: {describe(kind)}"  # 1 may mean 100% or one step
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
    if any(not list(attempt) for _, attempt in failed):
        return WRONG  # a name in it has no value, which was reported there
    for option, attempt in failed:
        if any(diagnostic.code not in ("FT060", "FT062", "FT002", "FT040") for diagnostic in attempt):
            return coerce(ev, raw, option, key, sink)
    if isinstance(raw, Invoke):
        uses = vocabulary().functions.get(raw.name, {})
        for option, _ in failed:
            if option.name in uses:
                return coerce(ev, raw, option, key, sink)
    if isinstance(raw, Bare | Invoke | Str):
        for option, attempt in failed:
            if any(diagnostic.code in ("FT002", "FT040") for diagnostic in attempt):
                return coerce(ev, raw, option, key, sink)
    fixable = [
        diagnostic
        for _, attempt in failed
        for diagnostic in attempt
        if diagnostic.fix is not None and diagnostic.fix.safe
    ]
    if fixable:
        return _wrong(raw, kind, key, sink, fixable[0].help, fixable[0].fix)
    return _wrong(raw, kind, key, sink)


# --- scalars


def _bool(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    if isinstance(raw, Lit) and isinstance(raw.value, bool):
        return raw.value
    if isinstance(raw, Str) and raw.plain is not None and (raw.plain in ("true", "false") or raw.plain in CONSTANTS):
        word = CONSTANTS.get(raw.plain, raw.plain)
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
    if unwrapped := _number_in_quotes(raw, kind, key, sink):
        return unwrapped
    if not isinstance(raw, Num) or (raw.dimension not in _DIMENSIONS[kind.name] and raw.number != 0):
        return _wrong(raw, kind, key, sink)
    if kind.name in ("int", "count", "bytes"):
        if raw.number != int(raw.number):
            return _wrong(raw, kind, key, sink)
        _hint_at_1024(raw, key, ev)
        return int(raw.number)
    return exact(raw.number) if kind.name == "number" else float(raw.number)


_IN_QUOTES = re.compile(r"\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?(?:%|[A-Za-z]+| (?:epochs?|steps?|tokens?))?")


def _number_in_quotes(raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    """WRONG, and a fix that removes the quotes, if the text is a number; else None."""
    if not isinstance(raw, Str) or raw.plain is None or not _IN_QUOTES.fullmatch(raw.plain):
        return None
    fix = Fix("remove the quotes", (Edit(raw.span, raw.plain),))
    return _wrong(raw, kind, key, sink, f"write `{raw.plain}` without quotes", fix)


_POWERS = re.compile(r"(1|2|4|8|16|32|64|128|256|512)k")


def _hint_at_1024(raw: Num, key: Key, ev: Evaluator) -> None:
    """Report `8k`, which is 8000; models usually have 8192."""
    if key.powers and _POWERS.fullmatch(raw.written):
        suggestion = f"{raw.written}i"
        text = f"`{raw.written}` is {int(raw.number)}; context lengths are usually powers of two"
        help = f"write `{suggestion}` for {int(raw.number) // 1000 * 1024}"
        fix = Fix(f"write `{suggestion}`", (Edit(raw.span, suggestion),), safe=False)
        ev.session.sink.add(Diagnostic("FT067", text, raw.span, Severity.INFO, help=help, fix=fix))


def _amount(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    units = _AMOUNTS[kind.name]
    if unwrapped := _number_in_quotes(raw, kind, key, sink):
        return unwrapped
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
    "stderrs": ("stderrs",),
}
_SPECIAL = {"every": ("never", "best")}


def _level(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    """A share or an absolute number: `10%`, or `1e-6` (for `part`: a count such as `500`)."""
    if isinstance(raw, Num) and raw.dimension == "share":
        return Amount(raw.number, "share")
    if isinstance(raw, Num) and raw.dimension in ("", "count"):
        return Amount(raw.number, "count" if kind.name == "part" else "rate")
    return _wrong(raw, kind, key, sink)


def _metric(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    """The name of a metric (`eval_loss`), or a stage's (`sft.eval_loss`)."""
    if isinstance(raw, Stg):
        return raw.ref
    return raw.name if isinstance(raw, Bare) else _wrong(raw, kind, key, sink)


FILES = ("path", "train", "eval", "test")
"""Parts of a stage that are files: the path of its result, and the splits of data."""


def part_exists(ev: Evaluator, raw: Stg, parts: tuple[str, ...], sink: Sink) -> bool:
    """Whether the part of the stage can be used here; else it is reported."""
    kind = ev.names.stages.get(raw.ref.stage, "")
    available = [part for part in parts if part == "path" or kind == "data"]
    if not raw.ref.part or raw.ref.part in available:
        return True
    help = f"parts: {', '.join(available)}" if available else f"write `{raw.ref.stage}`"
    sink.error("FT040", f"`{raw.ref.stage}` has no part `{raw.ref.part}`", raw.span, help=help)
    return False


def _text(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    reads = kind.name == "path" and key.name != "to"  # the destination is not an input
    if kind.name == "script":  # only a literal script: an interpolated value would become code
        return _wrong(raw, kind, key, sink, 'write the script itself: `run = "…"`')
    if isinstance(raw, Str):
        if raw.plain == "" and not key.empty and kind.name != "script":
            sink.error("FT003", f"`{key.name}` is an empty text", raw.span, help="write a text, or remove the key")
            return WRONG
        if raw.plain is not None:
            return _path(raw, raw.plain, key, sink) if kind.name == "path" else raw.plain
        if reads and len(raw.parts) == 1 and isinstance(raw.parts[0], StageRef):
            return raw.parts[0]
        name = next(p.stage for p in raw.parts if isinstance(p, StageRef))
        sink.error("FT060", f"the result of `{name}` is known only after it has run", raw.span)
        return WRONG
    if isinstance(raw, Stg) and reads:
        return raw.ref if part_exists(ev, raw, FILES, sink) else WRONG
    if isinstance(raw, Bare):
        fix = Fix("put it in quotes", (Edit(raw.span, f'"{raw.name}"'),))
        return _wrong(raw, kind, key, sink, f'write `"{raw.name}"`', fix)
    return _wrong(raw, kind, key, sink)


def _path(raw: Str, text: str, key: Key, sink: Sink) -> Any:
    """Report a path with a component that is too long, or with a `~` that no shell would expand."""
    if size := longest_name(text):
        sink.error(
            "FT003",
            f"`{key.name}` contains a file name of {size} bytes",
            raw.span,
            label="file systems allow at most 255",
        )
        return WRONG
    if text.startswith("~"):
        help = 'write a path relative to the recipe, or `let home = env("HOME")` and "{home}/…"'
        sink.error("FT059", "`~` is not expanded to the home folder", raw.span, help=help)
        return WRONG
    return text


def _name(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    text = raw.name if isinstance(raw, Bare) else raw.plain if isinstance(raw, Str) else None
    if text is None:
        return _wrong(raw, kind, key, sink)
    if "," in text:  # a list in the syntax of YAML or flags
        written = f"[{', '.join(part.strip() for part in text.split(','))}]"
        fix = Fix(f"write `{written}`", (Edit(raw.span, written),), safe=False)
        sink.error("FT060", f"`{key.name}` takes one name, not a list in one text", raw.span,
                   help=f"write `{written}`", fix=fix)  # fmt: skip
        return WRONG
    if key.catalog and text not in calls.catalog_names(ev, key):
        if key.catalog == "templates" and may_be_of_a_fork(text, calls.catalog_names(ev, key), raw.span, sink):
            return text
        bare = raw if isinstance(raw, Bare) else Bare((tree.Word(text, raw.span),), raw.span)
        return _unknown(bare, list(dict.fromkeys(calls.catalog_names(ev, key))), key, sink)
    return text


# --- members, functions, stages


def _member(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    members: Mapping[str, Member] = key.members or {}
    if isinstance(raw, Choice):
        return raw.value
    if isinstance(raw, Str) and raw.plain and not any(char in raw.plain for char in "/\n "):
        if raw.plain in members or raw.plain in calls.catalog_names(ev, key):
            fix = Fix("remove the quotes", (Edit(raw.span, raw.plain),))
            return _wrong(raw, kind, key, sink, f"write `{raw.plain}` without quotes", fix)
        raw = Bare((tree.Word(raw.plain, raw.span),), raw.span)
    if isinstance(raw, Lit) and raw.value is not None and (word := "true" if raw.value else "false") in members:
        return Term(word)
    if not isinstance(raw, Bare | Invoke):
        return WRONG if named_otherwise(raw.span, key, sink) else _wrong(raw, kind, key, sink)
    member = members.get(raw.name) if raw.name != ANY_NAME else None
    if member is None:
        is_open = ANY_NAME in members and not key.catalog
        if raw.name not in calls.catalog_names(ev, key) and not is_open:
            known = dict.fromkeys(calls.catalog_names(ev, key))
            return _unknown(raw, [*(name for name in members if name != ANY_NAME), *known], key, sink)
        member = members.get(ANY_NAME, Member(raw.name))
    if isinstance(raw, Bare):
        needed = next((name for name in member.positional[:1] if member.options[name].required), "")
        if needed:
            sink.error("FT010", f"`{raw.name}` needs `{needed}`", raw.span, help=f"write `{raw.name}(…)`")
            return WRONG
        return Term(raw.name)
    options = calls.arguments(ev, raw, member.options, member.positional, sink)
    return WRONG if options is WRONG else Term(raw.name, options)


def _by_use(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    """A type whose values are calls: `model`, `data`, `push`, bounds, goals, phases."""
    if isinstance(raw, Choice):
        return raw.value
    if isinstance(raw, Stg) and kind.name in ("model", "stage"):
        return raw.ref if part_exists(ev, raw, ("path",) if kind.name == "model" else (), sink) else WRONG
    if isinstance(raw, Invoke):
        return calls.function(ev, raw, kind.name, key, sink)
    if isinstance(raw, Bare) and kind.name in ("model", "stage"):
        return _unknown(raw, list(ev.names.stages), key, sink, "no stage or value is named")
    if isinstance(raw, Str) and raw.plain and kind.name in ("model", "data"):
        return _source_in_quotes(raw, raw.plain, kind, key, sink)
    return _wrong(raw, kind, key, sink)


def _source_in_quotes(raw: Str, text: str, kind: Type, key: Key, sink: Sink) -> Any:
    """A hub id is `organisation/name`: at most one slash, and no extension of a data file. Anything else is a path."""
    is_id = re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", text) and not text.endswith(
        (".json", ".jsonl", ".csv", ".parquet")
    )
    suggestion = f"{'hf' if is_id else 'file'}({raw.span.text})"  # the source text, with its escapes
    return _wrong(
        raw, kind, key, sink, f"write `{suggestion}`", Fix(f"write `{suggestion}`", (Edit(raw.span, suggestion),))
    )


def _data(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    """A list of sources, data stages and parts of data stages."""
    if isinstance(raw, Lst):
        items = [_data(ev, item, kind, key, sink) for item in raw.items]
        return WRONG if any(item is WRONG for item in items) else [part for item in items for part in item]
    if isinstance(raw, Stg):
        return [raw.ref]
    if isinstance(raw, Bare):
        data_stages = [name for name, kind in ev.names.stages.items() if kind == "data"]
        return _unknown(raw, data_stages, key, sink, "no data stage is named")
    data = _by_use(ev, raw, kind, key, sink)
    return WRONG if data is WRONG else [data]


def _list(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    item = kind.item or Type("any")
    raws = raw.items if isinstance(raw, Lst) else (raw,)
    items = []
    for element in raws:
        if isinstance(element, Bare) and item.name in ("text", "path") and element.name not in CONSTANTS:
            items.append(element.name)
        else:
            items.append(coerce(ev, element, item, key, sink))
    return WRONG if any(element is WRONG for element in items) else check_length(items, key, raw.span, sink)


def _range(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    if not isinstance(raw, Between):
        return _wrong(raw, kind, key, sink)
    low, high = (coerce(ev, end, kind.item or Type("number"), key, sink) for end in (raw.low, raw.high))
    if low is WRONG or high is WRONG:
        return WRONG
    if low > high:
        sink.error("FT003", "the low end of the range is above the high end", raw.span)
        return WRONG
    return Range(low, high)


def _any(ev: Evaluator, raw: Raw, kind: Type, key: Key, sink: Sink) -> Any:
    """A value in a passthrough block, as plain data."""
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
    """A type with one value: `auto`, `none`, `all`."""
    return Term(kind.name) if isinstance(raw, Bare) and raw.name == kind.name else _wrong(raw, kind, key, sink)


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
    """A temporary key of a given type (for a parameter, or an argument)."""
    parse_type(kind)
    return Key(name=name, type=kind)


__all__ = ["Span", "coerce", "item_type", "typed_key"]
