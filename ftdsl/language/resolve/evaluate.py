"""Expressions to values: names are looked up outward, and what is not of the type wanted is passed over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from typing import Any

from ftdsl.catalog.vocabulary import Key
from ftdsl.diagnostics import Label, Sink
from ftdsl.language import tree
from ftdsl.language.resolve import arithmetic
from ftdsl.language.resolve.coerce import coerce, item_type
from ftdsl.language.resolve.layers import Entry
from ftdsl.language.resolve.load import Module
from ftdsl.language.resolve.names import (
    BestFound,
    Found,
    KeyFound,
    LetFound,
    Names,
    ParamFound,
    Place,
    StageFound,
    View,
)
from ftdsl.language.resolve.raw import (
    WRONG,
    Bare,
    Between,
    Broken,
    Choice,
    Invoke,
    Lit,
    Lst,
    Num,
    Raw,
    Stg,
    Str,
    same,
)
from ftdsl.language.types import parse_type
from ftdsl.language.values import Script, Slot, StageRef, Term
from ftdsl.record import frozen, mutable, replace
from ftdsl.session import Session
from ftdsl.source import Span

MAX_TEXT = 2**16
"""Characters an interpolated text may have; texts that double each other would never end otherwise."""


@frozen
class Axis:
    """A swept value: `id` is unique, `label` is the key's last word, `names` how each of its values is called."""

    id: int
    label: str
    names: tuple[str, ...]


@frozen
class Dimension:
    """A searched value: its dotted key and the distribution."""

    key: str
    distribution: Term
    span: Span


@mutable
class Trace:
    """What an evaluation met: axes it depends on, stages it refers to, dimensions it would be searched along."""

    axes: dict[int, Axis] = field(default_factory=dict)
    refs: dict[StageRef, Span] = field(default_factory=dict)
    dimensions: dict[str, Dimension] = field(default_factory=dict)

    def absorb(self, other: Trace) -> None:
        self.axes |= other.axes
        self.refs |= other.refs
        self.dimensions |= other.dimensions


StageVariants = Callable[[str, Span, Sink], "list[tuple[str, Mapping[int, int], Mapping[int, Axis]]] | None"]
"""For a stage's name: (run, assignment, axes) of each variant; None, said in the sink, while the stage itself is resolved."""


class Evaluator:
    """Evaluates under one assignment of axes (axis id -> index); an axis not assigned stands at its first value."""

    def __init__(self, session: Session, names: Names, given: Mapping[str, tuple[tree.Expression, Place]]) -> None:
        self.session = session
        self.names = names
        self.given = given
        self.assignment: Mapping[int, int] = {}
        self.trace = Trace()
        self.variants: StageVariants = lambda name, span, sink: [("", {}, {})]
        self.best_of: Callable[[str, Span], list[StageRef]] = lambda name, span: [StageRef(name)]
        self.env_used: dict[str, str] = {}
        self._open: list[object] = []
        self._known: dict[int, Raw] = {}

    @contextmanager
    def tracing(self) -> Iterator[Trace]:
        """Evaluate on a trace of its own; the caller absorbs it when the result is used."""
        outer, self.trace = self.trace, Trace()
        try:
            yield self.trace
        finally:
            self.trace = outer

    # --- with a type

    def typed(self, expression: tree.Expression, key: Key, place: Place, sink: Sink) -> Any:
        """The value as plain data of the key's type, or WRONG with the reason in the sink."""
        kind = parse_type(key.type)
        if kind.name == "script" and isinstance(expression, tree.Text):
            return self._script(expression, place, sink)
        if isinstance(expression, tree.Ref):
            return self._typed_ref(expression, key, place, sink)
        if isinstance(expression, tree.ListOf) and (item := item_type(kind)):
            return self._typed_list(expression, replace(key, type=str(item)), place, sink, flat=kind.name == "data")
        return coerce(self, self.natural(expression, place, sink), kind, key, sink)

    def _typed_list(self, node: tree.ListOf, key: Key, place: Place, sink: Sink, *, flat: bool) -> Any:
        items = [self.typed(item, key, place, sink) for item in node.items]
        if any(item is WRONG for item in items):
            return WRONG
        return [part for item in items for part in (item if isinstance(item, list) else [item])] if flat else items

    def _typed_ref(self, node: tree.Ref, key: Key, place: Place, sink: Sink) -> Any:
        kind = parse_type(key.type)
        fits: list[tuple[Any, Found, Trace]] = []
        found = list(self.names.candidates(tuple(w.text for w in node.path), place))
        for candidate in found:
            with self.tracing() as trace:
                data = coerce(self, self._found(candidate, node, Sink()), kind, key, Sink())
            if data is not WRONG:
                fits.append((data, candidate, trace))
        if fits:
            self._agree(node, fits, sink)
            self.trace.absorb(fits[0][2])
            return fits[0][0]
        bare = Bare(node.path, node.span)
        member = coerce(self, bare, kind, key, Sink()) if len(node.path) == 1 else WRONG
        if member is not WRONG:
            return member
        return coerce(self, self._found(found[0], node, sink) if found else bare, kind, key, sink)

    def _agree(self, node: tree.Ref, fits: list[tuple[Any, Found, Trace]], sink: Sink) -> None:
        first = fits[0]
        for data, found, _ in fits[1:]:
            if data != first[0] or type(data) is not type(first[0]):
                labels = tuple(Label(_span(f), "this") for f in (first[1], found) if _span(f))
                text = f"`{node.span.text}` could be two different values"
                sink.error("FT041", text, node.span, labels=labels, help="rename one of them")
                return

    # --- without a type

    def natural(self, node: tree.Expression, place: Place, sink: Sink) -> Raw:
        """The value as it stands, before a type is wanted of it."""
        match node:
            case tree.Quantity():
                return arithmetic.quantity(node, sink)
            case tree.Text():
                return self._text(node, place, sink)
            case tree.Constant():
                return Lit(node.value, node.span)
            case tree.Ref():
                return self._natural_ref(node, place, sink)
            case tree.Call():
                return Invoke(node, place, node.span)
            case tree.ListOf():
                return Lst(tuple(self.natural(item, place, sink) for item in node.items), node.span)
            case tree.Negative():
                return arithmetic.negative(self._number(node.value, place, sink), node.span, sink)
            case tree.Binary():
                return self._binary(node, place, sink)
            case _:
                return Broken(node.span)

    def _binary(self, node: tree.Binary, place: Place, sink: Sink) -> Raw:
        left, right = self._number(node.left, place, sink), self._number(node.right, place, sink)
        if node.op == "..":
            return Between(left, right, node.span)
        return arithmetic.combine(node.op, left, right, node.span, sink)

    def _number(self, node: tree.Expression, place: Place, sink: Sink) -> Raw:
        """An operand: of what a name may mean, the innermost number."""
        if not isinstance(node, tree.Ref):
            return self.natural(node, place, sink)
        path = tuple(w.text for w in node.path)
        numbers: list[Raw] = []
        for candidate in self.names.candidates(path, place):
            with self.tracing() as trace:
                raw = self._found(candidate, node, Sink())
            if isinstance(raw, Num):
                numbers.append(raw)
                self.trace.absorb(trace)
        if not numbers:
            sink.error("FT040", f"`{node.span.text}` is not a number in scope", node.span)
            return Broken(node.span)
        if not all(same(numbers[0], other) for other in numbers[1:]):
            sink.error(
                "FT041", f"`{node.span.text}` could be two different values", node.span, help="rename one of them"
            )
        return numbers[0]

    def _natural_ref(self, node: tree.Ref, place: Place, sink: Sink) -> Raw:
        path = tuple(w.text for w in node.path)
        for candidate in self.names.candidates(path, place):
            return self._found(candidate, node, sink)
        return Bare(node.path, node.span)

    def _found(self, found: Found, node: tree.Ref, sink: Sink) -> Raw:
        """What a candidate is worth, with the span of its use, so that messages point there."""
        match found:
            case KeyFound():
                place = Place(found.entry.module, found.view, found.entry.path[:-1], found.entry.path)
                raw = self._once(found.entry, node, sink, lambda: self.entry(found.entry, place, sink))
            case LetFound():
                raw = self._let(found, node, sink)
            case ParamFound():
                raw = self._once(found.param, node, sink, lambda: self._param(found, node, sink))
            case StageFound():
                return self.stage(found, node.span, sink)
            case BestFound():
                return Choice(Term("search.best"), node.span)
        return raw if isinstance(raw, Invoke) else replace(raw, span=node.span)

    def known_let(self, let: tree.Let, module: Module, sink: Sink) -> Raw:
        """A `let` where it is declared."""
        return self._let(LetFound(let, module), tree.Ref((let.name,), let.name.span), sink)

    def _let(self, found: LetFound, node: tree.Ref, sink: Sink) -> Raw:
        """A `let` is worked out once, unless an axis or a stage is behind it: chains of them stay linear."""
        known = self._known.get(id(found.let))
        if known is not None:
            return known
        with self.tracing() as trace:
            raw = self._once(found.let, node, sink, lambda: self.let(found.let, Place(found.module), sink))
        self.trace.absorb(trace)
        if not isinstance(raw, Broken) and not (trace.axes or trace.refs or trace.dimensions):
            self._known[id(found.let)] = raw
        return raw

    def _once(self, thing: object, node: tree.Ref, sink: Sink, work: Callable[[], Raw]) -> Raw:
        if any(thing is other for other in self._open):
            sink.error("FT042", f"`{node.span.text}` is defined by itself", node.span)
            return Broken(node.span)
        self._open.append(thing)
        try:
            return work()
        finally:
            self._open.pop()

    def let(self, let: tree.Let, place: Place, sink: Sink) -> Raw:
        """The natural value of a `let`, whatever its binder."""
        if let.binder is tree.Binder.SWEPT:
            chosen = self.swept(let.value, let.name.text, id(let), place, sink)
            return self.natural(chosen, place, sink) if isinstance(chosen, tree.Expression) else chosen
        if let.binder is tree.Binder.SAMPLED:
            return self._sampled(let.value, let.name.text, place, sink)
        return self.natural(let.value, place, sink)

    def _param(self, found: ParamFound, node: tree.Ref, sink: Sink) -> Raw:
        name = found.param.name.text
        if name in self.given:
            expression, place = self.given[name]
            return self.natural(expression, place, sink)
        if found.param.default is None:
            return Broken(node.span)  # said once, where it is declared
        return self.natural(found.param.default, Place(found.module), sink)

    def stage(self, found: StageFound, span: Span, sink: Sink) -> Stg | Broken:
        """A stage in the variant that the assignment stands at; what refers to it is swept along with it."""
        variants = self.variants(found.name, span, sink)
        if not variants:
            return Broken(span)
        run = variants[0][0]
        for name, assignment, axes in variants:
            self.trace.axes |= axes
            if all(self.assignment.get(axis, 0) == index for axis, index in assignment.items()):
                run = name
        ref = StageRef(found.name, found.part, run)
        self.trace.refs.setdefault(ref, span)
        return Stg(ref, span)

    # --- binders

    def entry(self, entry: Entry, place: Place, sink: Sink) -> Raw:
        """The natural value of a key, whatever its binder."""
        assert entry.value is not None
        if entry.binder is tree.Binder.SWEPT:
            chosen = self.swept(entry.value, entry.path[-1], id(entry), place, sink)
            return self.natural(chosen, place, sink) if isinstance(chosen, tree.Expression) else chosen
        if entry.binder is tree.Binder.SAMPLED:
            return self._sampled(entry.value, ".".join(entry.path), place, sink)
        return self.natural(entry.value, place, sink)

    def swept(self, value: tree.Expression, label: str, axis: int, place: Place, sink: Sink) -> tree.Expression | Raw:
        """The value an axis stands at: an expression where the list is written here, else a raw value."""
        items: tuple[tree.Expression, ...] | tuple[Raw, ...] = ()
        if isinstance(value, tree.ListOf):
            items = value.items
        elif isinstance(raw := self.natural(value, place, sink), Lst):
            items = raw.items
        if not items:
            sink.error("FT083", "`in` needs a list with something in it", value.span, help="write `seed in [1, 2, 3]`")
            return Broken(value.span)
        self.trace.axes[axis] = Axis(axis, label, _names([item.span.text for item in items]))
        return items[min(self.assignment.get(axis, 0), len(items) - 1)]

    def _sampled(self, value: tree.Expression, key: str, place: Place, sink: Sink) -> Raw:
        chosen = self.sampled(value, key, sink)
        return self.natural(chosen, place, sink) if chosen else Broken(value.span)

    def sampled(self, value: tree.Expression, key: str, sink: Sink) -> tree.Expression | None:
        """A value that stands for a distribution: its first choice or lower bound."""
        if not self.names.searched:
            text = f"`{key}` is sampled, but nothing searches"
            sink.error("FT081", text, value.span, help="add a `search { goal = minimize(…), trials = 20 }` block")
            return None
        first = value.arguments[0].value if isinstance(value, tree.Call) and value.arguments else None
        name = value.path[0].text if isinstance(value, tree.Call) else ""
        if name not in ("choice", "log", "uniform") or first is None:
            sink.error(
                "FT083", "`~` needs a distribution", value.span, help="write `log(1e-6 .. 1e-4)` or `choice(8, 16)`"
            )
            return None
        self.trace.dimensions[key] = Dimension(key, Term(name, {"text": value.span.text}), value.span)
        return first.left if isinstance(first, tree.Binary) and first.op == ".." else first

    # --- texts

    def _text(self, node: tree.Text, place: Place, sink: Sink) -> Raw:
        parts: list[str | StageRef] = []
        for part in node.parts:
            if isinstance(part, str):
                parts.append(part)
                continue
            said = self._hole(part, place, sink)
            if said is None:
                return Broken(node.span)
            parts += said
        if sum(len(part) for part in parts if isinstance(part, str)) > MAX_TEXT:
            sink.error("FT003", "this text is longer than 65,536 characters", node.span)
            return Broken(node.span)
        return Str(tuple(parts), node.span)

    def _hole(self, hole: tree.Hole, place: Place, sink: Sink) -> tuple[str | StageRef, ...] | None:
        path = tuple(word.text for word in hole.path)
        if place.view and path in (("run",), ("stage",)):
            return (place.view.run if path == ("run",) else place.view.name,)
        ref = tree.Ref(hole.path, hole.span)
        said: list[tuple[str | StageRef, ...]] = []
        broken = False
        for candidate in self.names.candidates(path, place):
            with self.tracing() as trace:
                raw = self._found(candidate, ref, Sink())
                text = self._as_text(raw)
            broken = broken or isinstance(raw, Broken)
            if text is not None:
                said.append(text)
                self.trace.absorb(trace)
        if not said:
            if not broken:
                self._unknown_hole(hole, sink)
            return None
        if any(other != said[0] for other in said[1:]):
            sink.error(
                "FT041", f"`{'.'.join(path)}` could be two different values", hole.span, help="rename one of them"
            )
        return said[0]

    def _unknown_hole(self, hole: tree.Hole, sink: Sink) -> None:
        from ftdsl.diagnostics.suggest import closest

        word = hole.path[0].text
        guess = closest(word, [*self.names.stages, "name", "run", "stage"])
        label = f"did you mean `{guess}`?" if guess else ""
        help = "for a brace itself write `{{`; for the shell's variables `${NAME}`"
        sink.error("FT040", f"nothing here is called `{word}`", hole.span, label=label, help=help)

    def _as_text(self, raw: Raw) -> tuple[str | StageRef, ...] | None:
        match raw:
            case Str():
                return raw.parts
            case Num():
                return (raw.written,)
            case Lit():
                return ({True: "true", False: "false", None: "null"}[raw.value],)
            case Bare():
                return (raw.name,)
            case Stg():
                return (raw.ref if raw.ref.part else replace(raw.ref, part="path"),)
            case Invoke():
                return self._call_as_text(raw)
        return None

    def _call_as_text(self, raw: Invoke) -> tuple[str | StageRef, ...] | None:
        """A model or data set in a string is its id or path; a member is its name."""
        for use in ("model", "data"):
            term = coerce(self, raw, parse_type(use), Key(name=use, type=use), Sink())
            term = term[0] if isinstance(term, list) and len(term) == 1 else term
            if isinstance(term, Term):
                place = term.options.get("id") or term.options.get("path")
                return (place if isinstance(place, StageRef) else str(place),) if place else None
        return (raw.name,)

    def _script(self, node: tree.Text, place: Place, sink: Sink) -> Any:
        parts: list[str | Slot] = []
        for part in node.parts:
            if isinstance(part, str):
                parts.append(part)
                continue
            name = ".".join(word.text for word in part.path)
            said: tuple[str | StageRef, ...] | None
            if place.view is not None and name in (
                "stage.path",
                f"{place.view.name}.path",
            ):  # where its own result goes
                said = (StageRef(place.view.name, "path", place.view.run),)
            else:
                said = self._hole(part, place, sink)
            if said is None:
                return WRONG
            parts.append(Slot(name, said))
        return Script(tuple(parts))


def _names(texts: list[str]) -> tuple[str, ...]:
    """How the values of an axis are called in `{run}`: what was written, as a file name; numbered where equal."""
    short = ["".join(c if c.isalnum() or c in "._+-" else "-" for c in _brief(text)).strip("-")[:40] for text in texts]
    if len(set(short)) == len(short) and all(short):
        return tuple(short)
    return tuple(f"{name}-{at}" if name else str(at) for at, name in enumerate(short, 1))


def _brief(text: str) -> str:
    """Of a call its last path part: `hf("org/name", …)` -> `name`."""
    if '"' in text:
        return text.split('"')[1].rstrip("/").rsplit("/", 1)[-1]
    return text


def _span(found: Found) -> Any:
    match found:
        case KeyFound():
            return found.entry.span
        case LetFound():
            return found.let.name.span
        case ParamFound():
            return found.param.name.span
    return None


__all__ = ["Axis", "Dimension", "Evaluator", "Trace", "View"]
