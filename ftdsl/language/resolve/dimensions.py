"""Search dimensions: what `log(…)`, `uniform(…)` and `choice(…)` after `~` span, checked, and the value a trial gives them.

A trial's value is a text: a number with its unit (`3.2e-5`, `7.5%`), or one of the choices as written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ftdsl.catalog.vocabulary import Key
from ftdsl.diagnostics import Sink
from ftdsl.language import tree
from ftdsl.language.resolve.layers import Entry, Layer
from ftdsl.language.resolve.names import Scope
from ftdsl.language.resolve.raw import Between, Broken, Num
from ftdsl.language.types import Type, parse_type
from ftdsl.language.units import exact, unit_of
from ftdsl.record import frozen, replace
from ftdsl.source import Span

if TYPE_CHECKING:
    from ftdsl.language.resolve.evaluate import Evaluator

FUNCTIONS = ("log", "uniform", "choice")
LARGEST_CHOICE = 1000
DIGITS = 5
"""Significant digits of a value between two bounds: enough for any training, and short enough to be read and copied."""

_UNITS = {
    "share": "%", "time": "s", "epochs": " epochs", "steps": " steps", "tokens": " tokens", "money": "USD", "bytes": "MB",
}  # fmt: skip
"""Units for bounds that were computed (`2 * 5%`)."""
_WRITTEN = re.compile(r"[-+]?[\d_.]+(?:[eE][-+]?\d+)?(.*)")
_WHOLE_UNITS = ("steps", "tokens", "count", "bytes")


@frozen
class Dimension:
    """A value that a study chooses.

    name: unique in the recipe (`sft.optim.lr`, `rank` of a `let`); key: as it is in its block (`optim.lr`); low, high: bounds
    in `unit`, included; step: distance between values, None for any; whole: whole numbers only; choices: as written; first: the
    value of the first trial, "" where the recipe has none.
    """

    name: str
    key: str
    kind: Literal["log", "uniform", "choice"]
    span: Span
    low: float = 0.0
    high: float = 0.0
    unit: str = ""
    step: float | None = None
    whole: bool = False
    choices: tuple[str, ...] = ()
    first: str = ""

    def text(self, number: float) -> str:
        """A number of this dimension as a recipe writes it, within the bounds."""
        number = min(max(number, self.low), self.high)
        if self.whole:
            return f"{round(number)}{self.unit}"
        rounded = float(f"{number:.{DIGITS}g}")
        value = rounded if self.low <= rounded <= self.high else number
        return f"{value:.12g}{self.unit}".replace("e-0", "e-").replace("e+0", "e+").replace("e+", "e")

    def number(self, text: str) -> float:
        """The number of a text made by `text`. Raises: ValueError."""
        return float(text.removesuffix(self.unit) if self.unit else text)

    @property
    def space(self) -> str:
        """The values it may have, in words that differ when the space does."""
        if self.kind == "choice":
            return f"choice({', '.join(self.choices)})"
        low, high = f"{self.low:.12g}{self.unit}", f"{self.high:.12g}{self.unit}"
        step = f", step = {self.step:.12g}{self.unit}" if self.step else ""
        return f"{self.kind}({low} .. {high}{step})".replace("e-0", "e-")

    def values_in_grid(self, points: int) -> int:
        """How many values a grid has of it: all choices and steps, else so many points, of which whole numbers may be fewer."""
        if self.kind == "choice":
            return len(self.choices)
        if self.step:
            return int((self.high - self.low) / self.step + 1e-9) + 1
        return min(points, int(self.high - self.low) + 1) if self.whole else points

    @property
    def representative(self) -> str:
        """The value that checks and plans without a trial take."""
        return self.first or (self.choices[0] if self.choices else self.text(self.low))


def read(ev: Evaluator, value: tree.Expression, name: str, key: str, scope: Scope, sink: Sink) -> Dimension | None:
    """The dimension that an expression after `~` spans; None, with the reason in the sink, when it spans none."""
    word = value.path[0].text if isinstance(value, tree.Call) and len(value.path) == 1 else ""
    if not isinstance(value, tree.Call) or word not in FUNCTIONS:
        help = "write `log(1e-6 .. 1e-4)` or `choice(8, 16)`"
        if isinstance(value, tree.ListOf):
            help = f"write `choice({value.span.text[1:-1]})`"
        elif isinstance(value, tree.Binary) and value.op == "..":
            help = f"write `uniform({value.span.text})` or `log({value.span.text})`"
        sink.error("FT083", "`~` needs a distribution", value.span, help=help)
        return None
    given = [argument for argument in value.arguments if argument.name is None]
    named = {argument.name.text: argument for argument in value.arguments if argument.name is not None}
    allowed = ("first",) if word == "choice" else ("step", "first")
    for extra, argument in named.items():
        if extra not in allowed:
            sink.error(
                "FT016", f"`{word}()` has no argument `{extra}`", argument.span, help=f"it takes: {', '.join(allowed)}"
            )
            return None
    if word == "choice":
        return _choice(value, [argument.value for argument in given], named.get("first"), name, key, sink)
    if len(given) != 1:
        sink.error("FT010", f"`{word}()` needs one range", value.span, help=f"write `{word}(1e-6 .. 1e-4)`")
        return None
    return _range(ev, value, word, given[0].value, named, name, key, scope, sink)


def choice_of(value: tree.Expression, key: str, sink: Sink) -> Dimension | None:
    """A dimension of names alone, such as profiles: `choice(a, b)`; None, and reported, for anything else."""
    if not (isinstance(value, tree.Call) and value.path[0].text == "choice"):
        sink.error("FT083", f"`{key} ~` needs names to choose from", value.span, help="write `choice(a, b)`")
        return None
    return _choice(value, [argument.value for argument in value.arguments], None, key, key, sink)


def _choice(
    value: tree.Call, items: Sequence[tree.Expression], first: tree.Argument | None, name: str, key: str, sink: Sink
) -> Dimension | None:
    texts = [" ".join(item.span.text.split()) for item in items]
    if len(texts) < 2:
        help = "write the values: `choice(8, 16, 32)`" if not texts else f"write `{key} = {texts[0]}`"
        sink.error("FT087", f"`{key}` has nothing to choose from", value.span, help=help)
        return None
    if len(texts) > LARGEST_CHOICE:
        sink.error("FT003", f"`choice()` takes at most {LARGEST_CHOICE} values", value.span)
        return None
    for at, text in enumerate(texts):
        if text in texts[:at]:
            sink.error("FT006", f"`{text}` is given twice", items[at].span)
            return None
    begin = " ".join(first.value.span.text.split()) if first else ""
    if first and begin not in texts:
        sink.error("FT002", f"`{begin}` is none of the choices", first.value.span, help=f"one of: {', '.join(texts)}")
        return None
    return Dimension(name, key, "choice", value.span, choices=tuple(texts), first=begin)


def _range(
    ev: Evaluator, value: tree.Call, word: str, node: tree.Expression, named: dict[str, tree.Argument], name: str, key: str,
    scope: Scope, sink: Sink,
) -> Dimension | None:  # fmt: skip
    raw = ev.natural(node, scope, sink)
    if isinstance(raw, Broken) or (
        isinstance(raw, Between) and isinstance(raw.low, Broken) | isinstance(raw.high, Broken)
    ):
        return None
    if not (isinstance(raw, Between) and isinstance(raw.low, Num) and isinstance(raw.high, Num)):
        sink.error("FT060", f"`{word}()` takes a range of numbers", raw.span, help=f"write `{word}(1 .. 3)`")
        return None
    low, high = raw.low, raw.high
    if not _same_unit(low, high):
        text = f"`{low.written}` and `{high.written}` have different units"
        sink.error("FT063", text, raw.span, help="both ends of a range need the same unit")
        return None
    if low.number >= high.number:
        what = "goes from low to high" if low.number > high.number else "has one value"
        help = (
            f"write `{high.written} .. {low.written}`" if low.number > high.number else f"write `{key} = {low.written}`"
        )
        sink.error("FT087", f"a range to search in has two ends, and this one {what}", raw.span, help=help)
        return None
    if word == "log" and low.number <= 0:
        help = "begin above 0, or write `uniform(…)`"
        sink.error(
            "FT088", f"`log()` cannot begin at `{low.written}`: the logarithm of 0 is no number", low.span, help=help
        )
        return None
    unit, factor = _unit(low if low.dimension else high)
    whole = _is_whole(low, high, _key_of(key, scope))
    dimension = Dimension(
        name, key, "log" if word == "log" else "uniform", value.span,
        float(exact(low.number / factor)), float(exact(high.number / factor)), unit, whole=whole,
    )  # fmt: skip
    if whole and (open_end := next((end for end in (low, high) if not _is_integer(end.number / factor)), None)):
        text = f"`{key}` takes whole numbers, and `{open_end.written}` is none"
        sink.error("FT060", text, open_end.span, help="write whole bounds, such as `8 .. 64`")
        return None
    return _with_options(ev, dimension, named, factor, low, scope, sink)


def _is_integer(number: Any) -> bool:
    return float(exact(number)).is_integer()


def _with_options(
    ev: Evaluator,
    dimension: Dimension,
    named: dict[str, tree.Argument],
    factor: float,
    low: Num,
    scope: Scope,
    sink: Sink,
) -> Dimension | None:
    for option, argument in named.items():
        raw = ev.natural(argument.value, scope, sink)
        if isinstance(raw, Broken):
            return None
        if not isinstance(raw, Num) or not _same_unit(raw, low):
            sink.error("FT060", f"`{option}` takes a number with the unit of the range", argument.value.span)
            return None
        number = float(exact(raw.number / factor))
        if option == "step":
            if not 0 < number <= dimension.high - dimension.low or dimension.kind == "log":
                text = (
                    "`log()` has no steps" if dimension.kind == "log" else "a step is more than 0 and fits in the range"
                )
                sink.error("FT003", text, argument.span)
                return None
            if dimension.whole and not number.is_integer():
                text = f"`{dimension.key}` takes whole numbers, and a step of `{raw.written}` leads to others"
                sink.error("FT060", text, argument.value.span, help="write a whole step")
                return None
            dimension = replace(dimension, step=number)
        elif not dimension.low <= number <= dimension.high:
            sink.error("FT003", f"`first` is within the range, not `{raw.written}`", argument.value.span)
            return None
        else:
            dimension = replace(dimension, first=dimension.text(number))
    if dimension.first and not _is_step(dimension, dimension.number(dimension.first)):
        first = named["first"].value
        help = f"values are {dimension.low:.12g}{dimension.unit} and so many steps of {dimension.step:.12g}{dimension.unit}"
        sink.error("FT003", f"`first` is no step of the range: `{dimension.first}`", first.span, help=help)
        return None
    return dimension


def _is_step(dimension: Dimension, number: float) -> bool:
    """Whether a range of steps has a number."""
    steps = (number - dimension.low) / dimension.step if dimension.step else 0.0
    return abs(steps - round(steps)) < 1e-6


def _same_unit(left: Num, right: Num) -> bool:
    plain = ("", "count")
    bare = [side for side in (left, right) if not side.dimension and side.number == 0]
    return left.dimension == right.dimension or bool(bare) or (left.dimension in plain and right.dimension in plain)


def _unit(bound: Num) -> tuple[str, float]:
    """The unit a bound is written in, and what one of it is in base units."""
    match = _WRITTEN.fullmatch(bound.written)
    text = match[1] if match else ""
    known = unit_of(text.strip())
    if known is None or known.dimension != bound.dimension:
        text = _UNITS.get(bound.dimension, "")
        known = unit_of(text.strip())
    if known is None or known.dimension in ("", "count"):
        return "", 1.0  # `4k .. 16k`: whole numbers are clearer
    return text, known.factor


def _key_of(key: str, scope: Scope) -> Key | None:
    from ftdsl.language.resolve import keys

    entry = keys.find(scope.view.kind if scope.view else "file", tuple(key.split("."))) if scope.own else None
    return entry if isinstance(entry, Key) else None


def _is_whole(low: Num, high: Num, key: Key | None) -> bool:
    """By the type of the key; where it leaves that open (a `let`), by how the bounds are written: `0 .. 4` or `0.0 .. 4.0`."""
    if low.dimension in _WHOLE_UNITS or high.dimension in _WHOLE_UNITS:
        return True
    if low.dimension or high.dimension:
        return False
    kind = parse_type(key.type) if key else Type("any")
    names = {option.name for option in kind.options or (kind,)}
    if names & {"int", "count"} and not names & {"number", "rate", "level", "share", "any"}:
        return True
    if names & {"number", "rate", "share", "level"} and "int" not in names:
        return False
    return not any(mark in bound.written for bound in (low, high) for mark in ".eE%")


def value_of(dimension: Dimension, value: tree.Expression, text: str, sink: Sink) -> tree.Expression | Num | None:
    """What a trial's text stands for: the choice where it is written, or a number; None, and reported, when it is neither."""
    if dimension.kind == "choice" and isinstance(value, tree.Call):
        items = [argument.value for argument in value.arguments if argument.name is None]
        item = next((item for item in items if " ".join(item.span.text.split()) == text), None)
        if item is not None:
            return item
    elif dimension.kind != "choice":
        try:
            number = dimension.number(text)
        except ValueError:
            number = None
        unit = unit_of(dimension.unit.strip())
        if number is not None and unit is not None and dimension.low <= number <= dimension.high:
            return Num(exact(number * unit.factor), unit.dimension, text, value.span)
    sink.error("FT089", f"a trial gives `{dimension.name}` the value `{text}`, which is not in its space", value.span)
    return None


def candidates(dimension: Dimension, value: tree.Expression, sink: Sink) -> Iterator[tree.Expression | Num]:
    """What a key is held against: every choice, or both ends of a range, each where it is written."""
    ends: list[Span] = [value.span, value.span]
    if isinstance(value, tree.Call) and value.arguments and isinstance(span := value.arguments[0].value, tree.Binary):
        ends = [span.left.span, span.right.span]
    for at, text in enumerate(dimension.choices or (dimension.text(dimension.low), dimension.text(dimension.high))):
        term = value_of(dimension, value, text, sink)
        if isinstance(term, Num):
            yield replace(term, span=ends[at], written=ends[at].text if ends[at] is not value.span else text)
        elif term is not None:
            yield term


def names_in(layers: Sequence[Layer]) -> dict[int, str]:
    """The dotted name of each entry, by its id: the stage that a layer is for, and the key."""
    return {
        id(entry): ".".join(filter(None, (layer.target, *entry.path))) for layer in layers for entry in layer.entries
    }


def with_own_value(ev: Evaluator, dimension: Dimension, owner: object, scope: Scope, sink: Sink) -> Dimension:
    """The dimension, which begins at the value of a weaker layer where it names no `first`. owner: its entry, or its `let`."""
    if dimension.first or not isinstance(owner, Entry) or scope.view is None:
        return dimension
    return replace(dimension, first=own_value(ev, dimension, scope.view.effective.layers, owner, sink))


def own_value(ev: Evaluator, dimension: Dimension, entry_layers: Sequence[Entry], own: Entry, sink: Sink) -> str:
    """The value that a weaker layer gives the key, where it lies in the space; else ""."""
    weaker = []
    for entry in entry_layers:
        if entry is own:
            break
        if (
            entry.path == own.path
            and entry.binder is tree.Binder.FIXED
            and entry.value is not None
            and not entry.is_reset
        ):
            weaker.append(entry)
    if not weaker or weaker[-1].value is None:
        return ""
    written = weaker[-1].value
    text = " ".join(written.span.text.split())
    if dimension.kind == "choice":
        return text if text in dimension.choices else ""
    raw = ev.natural(written, Scope(weaker[-1].module), Sink())
    unit = unit_of(dimension.unit.strip())
    if not isinstance(raw, Num) or unit is None or raw.dimension != unit.dimension:
        return ""
    number = raw.number / unit.factor
    inside = dimension.low <= number <= dimension.high and _is_step(dimension, number)
    return dimension.text(number) if inside else ""
