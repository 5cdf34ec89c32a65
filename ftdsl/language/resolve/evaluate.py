"""Expressions to values: names are looked up outward, and what is not of the type wanted is passed over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ftdsl.catalog.vocabulary import Key
from ftdsl.diagnostics import Diagnostic, Label, Sink
from ftdsl.diagnostics.suggest import closest
from ftdsl.language import tree, unquoted
from ftdsl.language.resolve import arithmetic, texts
from ftdsl.language.resolve.bounds import of_length
from ftdsl.language.resolve.coerce import coerce, item_type
from ftdsl.language.resolve.layers import Entry
from ftdsl.language.resolve.load import Module
from ftdsl.language.resolve.memo import Memo, Memos
from ftdsl.language.resolve.names import (
    BestFound,
    Found,
    KeyFound,
    LetFound,
    Names,
    ParamFound,
    Place,
    StageFound,
)
from ftdsl.language.resolve.raw import WRONG, Bare, Between, Broken, Choice, Invoke, Lit, Lst, Num, Raw, Stg, same
from ftdsl.language.resolve.trace import Axis, Dimension, Trace
from ftdsl.language.types import Type, parse_type
from ftdsl.language.values import StageRef, Term
from ftdsl.record import replace
from ftdsl.session import Session
from ftdsl.source import Span

MAX_ITEMS = 2**16
"""Items a list may have, those of lists in it counted; lists that double each other would never end otherwise."""

NUMERIC = {"int", "number", "share", "rate", "count", "part", "level", "any"}
"""Types of which a sum or product may be."""

MAX_NEAR = 200
"""Names among which the one that was probably meant is looked for."""

MAX_DEPTH = 600
"""Names, stages and expressions that may stand inside each other; a level takes about a dozen of Python's frames."""

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
        self.causes: list[Diagnostic] = []
        self.sizes: dict[int, tuple[Term, int]] = {}
        self.uses: dict[tuple[str, int], Found] = {}
        self._memos = Memos()
        self._depth = 0
        self._too_deep = False
        self._unknown: dict[tuple[object, ...], Span] = {}

    @contextmanager
    def tracing(self) -> Iterator[Trace]:
        """Evaluate on a trace of its own; the caller absorbs it when the result is used."""
        outer, self.trace = self.trace, Trace()
        try:
            yield self.trace
        finally:
            self.trace = outer

    @contextmanager
    def under(self, assignment: Mapping[int, int]) -> Iterator[Trace]:
        """Evaluate under an assignment of axes, on a trace of its own and without the names that are open outside."""
        outer, self.assignment = self.assignment, assignment
        try:
            with self._memos.apart(), self.tracing() as trace:
                yield trace
        finally:
            self.assignment = outer

    @contextmanager
    def deeper(self, span: Span) -> Iterator[bool]:
        """One level further inside; False, and it is reported, where that is too deep to be worked out."""
        self._depth += 1
        try:
            if self._depth > MAX_DEPTH and not self._too_deep:
                self._too_deep = True  # everything around it is too deep as well
                self.session.sink.error(
                    "FT065", "this is nested too deeply to be worked out", span, help="take it apart"
                )
            yield self._depth <= MAX_DEPTH
        finally:
            self._depth -= 1

    # --- with a type

    def typed(self, expression: tree.Expression, key: Key, place: Place, sink: Sink) -> Any:
        """The value as plain data of the key's type, or WRONG with the reason in the sink."""
        if isinstance(expression, tree.Quantity | tree.Constant):
            return coerce(self, self.natural(expression, place, sink), parse_type(key.type), key, sink)
        with self.deeper(expression.span) as readable:
            return self._typed(expression, key, place, sink) if readable else WRONG

    def _typed(self, expression: tree.Expression, key: Key, place: Place, sink: Sink) -> Any:
        kind = parse_type(key.type)
        if kind.name == "script" and (written := texts.where_written(self, expression, place, sink)):
            return texts.script(self, *written, sink)
        if isinstance(expression, tree.Binary | tree.Ref) and self._unquoted(expression, kind, key, place, sink):
            return WRONG
        if isinstance(expression, tree.Ref):
            return self._typed_ref(expression, key, place, sink)
        if isinstance(expression, tree.ListOf) and (item := item_type(kind)):
            items = self._typed_list(expression, replace(key, type=str(item)), place, sink, flat=kind.name == "data")
            return WRONG if items is WRONG else of_length(items, key, expression.span, sink)
        return coerce(self, self.natural(expression, place, sink), kind, key, sink)

    def _unquoted(self, node: tree.Binary | tree.Ref, kind: Type, key: Key, place: Place, sink: Sink) -> bool:
        """Report a path or the name of a model without quotes, where the key takes such a thing."""
        kinds = {option.name for option in kind.options or (kind,)}
        if not kinds & {"text", "path", "model", "data", "script", "name", "any", "push"}:
            return False
        if isinstance(node, tree.Ref):
            bare = unquoted.is_path(node.span.text) and not self._is_there(node, place)
        elif kinds & NUMERIC:
            bare = self._bare_name(node, place)
        else:
            bare = node.op != ".." and unquoted.is_name(node.span.text)
        if bare:
            wanted = "model" if "model" in kinds else "data" if "data" in kinds else ""
            unquoted.report(node.span, wanted, sink)
        return bare

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
                data = self._fit(candidate, node, kind, key, Sink())
            if data is not WRONG:
                fits.append((data, candidate, trace))
        if fits:
            self.used(node.span, fits[0][1])
            self._agree(node, fits, sink)
            self.trace.absorb(fits[0][2])
            return fits[0][0]
        bare = Bare(node.path, node.span)
        member = coerce(self, bare, kind, key, Sink()) if len(node.path) == 1 else WRONG
        if member is not WRONG:
            return member
        return self._fit(found[0], node, kind, key, sink) if found else coerce(self, bare, kind, key, sink)

    def _fit(self, found: Found, node: tree.Ref, kind: Type, key: Key, sink: Sink) -> Any:
        """A candidate as data of a type; a call is looked into once, however often its name is used."""
        raw = self.look_up(found, node, sink)
        if not isinstance(raw, Invoke):
            return coerce(self, raw, kind, key, sink)
        memo = self._once(("typed", *_identity(found), id(key), str(kind)), (found, key), node,
                          lambda own: coerce(self, raw, kind, key, own))  # fmt: skip
        if memo is None:
            return self._by_itself(node, sink, WRONG)
        self.trace.absorb(memo.trace)
        for problem in memo.problems:
            sink.add(problem)
        return memo.data

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
            case tree.Constant():
                return Lit(node.value, node.span)
            case tree.Call():
                return Invoke(node, place, node.span)
            case tree.Missing():
                return Broken(node.span)
        with self.deeper(node.span) as readable:
            return self._natural(node, place, sink) if readable else Broken(node.span)

    def _natural(self, node: tree.Expression, place: Place, sink: Sink) -> Raw:
        match node:
            case tree.Text():
                return texts.text(self, node, place, sink)
            case tree.Ref():
                return self._natural_ref(node, place, sink)
            case tree.ListOf():
                return self._listed(node, place, sink)
            case tree.Negative():
                return arithmetic.negative(self._number(node.value, place, sink), node.span, sink)
            case tree.Binary():
                return self._binary(node, place, sink)
            case _:
                return Broken(node.span)

    def _bare_name(self, node: tree.Expression, place: Place) -> bool:
        """Whether a product reads as a path: in one piece, of several names, none of which there is."""
        names = unquoted.leaves(node)
        return (
            "/" in node.span.text
            and unquoted.is_name(node.span.text)
            and (len(names) > 1 or unquoted.is_path(node.span.text))
            and not any(self._is_there(name, place) for name in names)
        )

    def _is_there(self, node: tree.Ref, place: Place) -> bool:
        return next(iter(self.names.candidates(tuple(w.text for w in node.path), place)), None) is not None

    def _binary(self, node: tree.Binary, place: Place, sink: Sink) -> Raw:
        if self._bare_name(node, place):
            unquoted.report(node.span, "", sink)
            return Broken(node.span)
        left, right = self._number(node.left, place, sink), self._number(node.right, place, sink)
        if node.op == "..":
            return Between(left, right, node.span)
        return arithmetic.combine(node.op, left, right, node.span, sink)

    def _listed(self, node: tree.ListOf, place: Place, sink: Sink) -> Raw:
        items = tuple(self.natural(item, place, sink) for item in node.items)
        size = sum(item.size if isinstance(item, Lst) else 1 for item in items)
        if size > MAX_ITEMS:
            sink.error("FT003", f"this list has more than {MAX_ITEMS:,} items", node.span)
            return Broken(node.span)
        return Lst(items, node.span, size)

    def _number(self, node: tree.Expression, place: Place, sink: Sink) -> Raw:
        """An operand: of what a name may mean, the innermost number."""
        if not isinstance(node, tree.Ref):
            return self.natural(node, place, sink)
        path = tuple(w.text for w in node.path)
        numbers: list[Raw] = []
        poisoned = False
        for candidate in self.names.candidates(path, place):
            with self.tracing() as trace:
                raw = self.look_up(candidate, node, sink if isinstance(candidate, StageFound) else Sink())
            poisoned |= isinstance(raw, Broken)
            if isinstance(raw, Num):
                if not numbers:
                    self.used(node.span, candidate)
                numbers.append(raw)
                self.trace.absorb(trace)
        if not numbers:
            if not poisoned:
                self._no_number(node, path, place, sink)
            return Broken(node.span)
        if not all(same(numbers[0], other) for other in numbers[1:]):
            sink.error(
                "FT041", f"`{node.span.text}` could be two different values", node.span, help="rename one of them"
            )
        return numbers[0]

    def _no_number(self, node: tree.Ref, path: tuple[str, ...], place: Place, sink: Sink) -> None:
        """Once for a name in a value, however often it stands there."""
        where = (id(place.module), place.own, self._memos.innermost, path)
        if self._unknown.setdefault(where, node.span) is not node.span:
            return
        near = [*place.module.lets, *place.module.params]
        guess = closest(path[-1], near) if len(path) == 1 and len(near) <= MAX_NEAR else None
        label = f"did you mean `{guess}`?" if guess else ""
        sink.error("FT040", f"`{node.span.text}` is not a number in scope", node.span, label=label)

    def _natural_ref(self, node: tree.Ref, place: Place, sink: Sink) -> Raw:
        path = tuple(w.text for w in node.path)
        for candidate in self.names.candidates(path, place):
            self.uses.setdefault((node.span.source.name, node.span.start), candidate)  # a wanted type may know better
            return self.look_up(candidate, node, sink)
        return Bare(node.path, node.span)

    def used(self, span: Span, found: Found) -> None:
        """Keep what a name at a place turned out to mean, for editors."""
        self.uses[span.source.name, span.start] = found

    def look_up(self, found: Found, node: tree.Ref, sink: Sink) -> Raw:
        """What a candidate is worth, with the span of its use, so that messages point there.

        What is wrong where it was declared is no message here: the cause is among `causes`.
        """
        match found:
            case StageFound():
                return self.stage(found, node.span, sink)
            case BestFound():
                return Choice(Term("search.best"), node.span)
            case KeyFound():
                place = Place(found.entry.module, found.view, found.entry.path[:-1], found.entry.path)
                memo = self._once(_identity(found), found, node, lambda own: self.entry(found.entry, place, own))
            case LetFound():
                memo = self._once(
                    _identity(found), found, node, lambda own: self.let(found.let, Place(found.module), own)
                )
            case ParamFound():
                memo = self._once(_identity(found), found, node, lambda own: self._param(found, node, own))
        if memo is None:
            self._by_itself(node, sink, None)
            return Broken(node.span)
        self.trace.absorb(memo.trace)
        raw: Raw = memo.data if isinstance(memo.data, Invoke) else replace(memo.data, span=node.span)
        return raw

    def _by_itself(self, node: tree.Ref, sink: Sink, data: Any) -> Any:
        problem = Diagnostic("FT042", f"`{node.span.text}` is defined by itself", node.span)
        sink.add(problem)
        self.causes.append(problem)
        return data

    def _once(self, key: tuple[object, ...], owner: object, node: tree.Ref, work: Callable[[Sink], Any]) -> Memo | None:
        """The result for a key, worked out once; None for one that is being worked out: it is defined by itself."""
        if (memo := self._memos.get(key)) is not None:
            return memo
        if self._memos.is_open(key):
            return None

        def traced(own: Sink) -> tuple[Any, Trace]:
            with self.tracing() as trace:
                return work(own), trace

        memo = self._memos.evaluate(key, owner, traced)
        if isinstance(memo.data, Broken) and not (isinstance(owner, KeyFound) and owner.view.name):
            self.causes += memo.problems  # a key of a stage is evaluated by the stage itself
        return memo

    def as_text(self, found: Found, raw: Invoke, node: tree.Ref) -> tuple[str | StageRef, ...] | None:
        """A call in a text, by the name that it was given."""
        memo = self._once(("text", *_identity(found)), found, node, lambda own: texts.call_as_text(self, raw))
        if memo is None:
            self._by_itself(node, Sink(), None)
            return None
        self.trace.absorb(memo.trace)
        written: tuple[str | StageRef, ...] | None = memo.data
        return written

    def known_let(self, let: tree.Let, module: Module, sink: Sink) -> Raw:
        """A `let` where it is declared."""
        return self.look_up(LetFound(let, module), tree.Ref((let.name,), let.name.span), sink)

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
            self.trace.local = True
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
        self.trace.local |= bool(place.view and place.view.name)
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


def _identity(found: Found) -> tuple[object, ...]:
    """What makes a name another than one that is written alike; of a key of a stage, the stage as it is resolved."""
    match found:
        case KeyFound():
            return ("key", id(found.entry), id(found.view))
        case LetFound():
            return ("let", id(found.let))
        case ParamFound():
            return ("param", id(found.param))
    return (id(found),)


def _span(found: Found) -> Any:
    match found:
        case KeyFound():
            return found.entry.span
        case LetFound():
            return found.let.name.span
        case ParamFound():
            return found.param.name.span
    return None


__all__ = ["Evaluator"]
