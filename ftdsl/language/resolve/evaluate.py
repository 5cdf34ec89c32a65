"""Evaluates expressions. Names are looked up from the innermost scope outward; symbols of another type are skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ftdsl.catalog.vocabulary import Key
from ftdsl.diagnostics import Diagnostic, Label, Sink
from ftdsl.diagnostics.suggest import closest
from ftdsl.language import tree, unquoted
from ftdsl.language.resolve import arithmetic, dimensions, keys, texts
from ftdsl.language.resolve.bounds import check_length
from ftdsl.language.resolve.coerce import coerce, item_type
from ftdsl.language.resolve.dimensions import Dimension
from ftdsl.language.resolve.layers import Entry
from ftdsl.language.resolve.load import Module
from ftdsl.language.resolve.memo import Memo, Memos
from ftdsl.language.resolve.names import (
    BestSymbol,
    KeySymbol,
    LetSymbol,
    Names,
    ParamSymbol,
    Scope,
    StageSymbol,
    Symbol,
    span_of,
)
from ftdsl.language.resolve.otherwise import named_otherwise
from ftdsl.language.resolve.raw import WRONG, Bare, Between, Broken, Choice, Invoke, Lit, Lst, Num, Raw, Stg, same
from ftdsl.language.resolve.trace import Axis, Trace, names_of
from ftdsl.language.types import Type, parse_type
from ftdsl.language.values import StageRef, Term
from ftdsl.record import replace
from ftdsl.session import Session
from ftdsl.source import Span

MAX_ITEMS = 2**16
"""Maximum items of a list with those of nested lists, since names could double a list exponentially."""

NUMERIC = {"int", "number", "share", "rate", "count", "part", "level", "any"}
"""Types that a sum or product can have."""

MAX_NEAR = 200
"""Maximum number of names to search for a suggestion."""

MAX_DEPTH = 600
"""Maximum nesting of names, stages and expressions; a level takes about a dozen Python frames."""

StageVariants = Callable[[str, Span, Sink], "list[tuple[str, Mapping[int, int], Mapping[int, Axis]]] | None"]
"""(run, assignment, axes) of each variant of a stage; None, and a diagnostic, while the stage itself is being resolved."""


class Evaluator:
    """Evaluates under one assignment of axes (axis id -> index); an unassigned axis has its first value."""

    def __init__(self, session: Session, names: Names, given: Mapping[str, tuple[tree.Expression, Scope]]) -> None:
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
        self.trial: Mapping[str, str] = {}
        self.trial_run = ""
        self.dimension_names: dict[int, str] = {}
        self._dimensions: dict[int, Dimension | None] = {}
        self.uses: dict[tuple[str, int], Symbol] = {}
        self._memos = Memos()
        self._depth = 0
        self._too_deep = False
        self._unknown: dict[tuple[object, ...], Span] = {}

    @contextmanager
    def tracing(self) -> Iterator[Trace]:
        """Evaluate with a new trace; the caller absorbs it if the result is used."""
        outer, self.trace = self.trace, Trace()
        try:
            yield self.trace
        finally:
            self.trace = outer

    @contextmanager
    def under(self, assignment: Mapping[int, int]) -> Iterator[Trace]:
        """Evaluate under an assignment of axes, with a new trace and no open names."""
        outer, self.assignment = self.assignment, assignment
        try:
            with self._memos.apart(), self.tracing() as trace:
                yield trace
        finally:
            self.assignment = outer

    @contextmanager
    def deeper(self, span: Span) -> Iterator[bool]:
        """Enter a level of nesting; yields False, and reports it, if it is too deep."""
        self._depth += 1
        try:
            if self._depth > MAX_DEPTH and not self._too_deep:
                self._too_deep = True  # report only the innermost level
                self.session.sink.error("FT065", "this is nested too deeply", span, help="split it")
            yield self._depth <= MAX_DEPTH
        finally:
            self._depth -= 1

    # --- with a type

    def typed(self, expression: tree.Expression, key: Key, scope: Scope, sink: Sink) -> Any:
        """The value as plain data of the key's type; WRONG and a diagnostic if it does not fit."""
        if isinstance(expression, tree.Quantity | tree.Constant):
            return coerce(self, self.natural(expression, scope, sink), parse_type(key.type), key, sink)
        with self.deeper(expression.span) as readable:
            return self._typed(expression, key, scope, sink) if readable else WRONG

    def _typed(self, expression: tree.Expression, key: Key, scope: Scope, sink: Sink) -> Any:
        kind = parse_type(key.type)
        if kind.name == "script" and (written := texts.literal_script(self, expression, scope, sink)):
            return texts.script(self, *written, sink)
        if isinstance(expression, tree.Binary | tree.Ref) and self._unquoted(expression, kind, key, scope, sink):
            return WRONG
        if isinstance(expression, tree.Binary) and named_otherwise(expression.span, key, sink):
            return WRONG
        if isinstance(expression, tree.Ref):
            return self._typed_ref(expression, key, scope, sink)
        if isinstance(expression, tree.ListOf) and (item := item_type(kind)):
            items = self._typed_list(expression, replace(key, type=str(item)), scope, sink, flat=item.name == "data")
            return WRONG if items is WRONG else check_length(items, key, expression.span, sink)
        return coerce(self, self.natural(expression, scope, sink), kind, key, sink)

    def _unquoted(self, node: tree.Binary | tree.Ref, kind: Type, key: Key, scope: Scope, sink: Sink) -> bool:
        """Report an unquoted path or model name if the key takes one."""
        kinds = {option.name for option in kind.options or (kind,)}
        if not kinds & {"text", "path", "model", "data", "script", "name", "any", "push"}:
            return False
        if isinstance(node, tree.Ref):
            bare = unquoted.is_path(node.span.text) and not self._is_defined(node, scope)
        elif kinds & NUMERIC:
            bare = self._bare_name(node, scope)
        else:
            bare = node.op != ".." and unquoted.is_name(node.span.text)
        if bare:
            source_kind = "model" if "model" in kinds else "data" if "data" in kinds else ""
            unquoted.report(node.span, source_kind, sink)
        return bare

    def _typed_list(self, node: tree.ListOf, key: Key, scope: Scope, sink: Sink, *, flat: bool) -> Any:
        items = [self.typed(item, key, scope, sink) for item in node.items]
        if any(item is WRONG for item in items):
            return WRONG
        return [part for item in items for part in (item if isinstance(item, list) else [item])] if flat else items

    def _typed_ref(self, node: tree.Ref, key: Key, scope: Scope, sink: Sink) -> Any:
        kind = parse_type(key.type)
        fits: list[tuple[Any, Symbol, Trace]] = []
        candidates = list(self.names.candidates(tuple(w.text for w in node.path), scope))
        for symbol in candidates:
            with self.tracing() as trace:
                data = self._fit(symbol, node, kind, key, Sink())
            if data is not WRONG:
                fits.append((data, symbol, trace))
        if fits:
            self.used(node.span, fits[0][1])
            self._agree(node, fits, sink)
            self.trace.absorb(fits[0][2])
            return fits[0][0]
        bare = Bare(node.path, node.span)
        attempt = Sink()
        member = coerce(self, bare, kind, key, attempt) if len(node.path) == 1 else WRONG
        if member is not WRONG:
            for warning in attempt:
                sink.add(warning)
            return member
        return self._fit(candidates[0], node, kind, key, sink) if candidates else coerce(self, bare, kind, key, sink)

    def _fit(self, symbol: Symbol, node: tree.Ref, kind: Type, key: Key, sink: Sink) -> Any:
        """A symbol as data of a type. A call is evaluated once, however often its name is used."""
        raw = self.look_up(symbol, node, sink)
        if not isinstance(raw, Invoke):
            return coerce(self, raw, kind, key, sink)
        memo = self._once(("typed", *_identity(symbol), id(key), str(kind)), (symbol, key), node,
                          lambda inner_sink: coerce(self, raw, kind, key, inner_sink))  # fmt: skip
        if memo is None:
            return self._by_itself(node, sink, WRONG)
        self.trace.absorb(memo.trace)
        for problem in memo.problems:
            sink.add(problem)
        return memo.data

    def _agree(self, node: tree.Ref, fits: list[tuple[Any, Symbol, Trace]], sink: Sink) -> None:
        first = fits[0]
        for data, symbol, _ in fits[1:]:
            if data != first[0] or type(data) is not type(first[0]):
                labels = tuple(Label(span, "this") for f in (first[1], symbol) if (span := span_of(f)))
                text = f"`{node.span.text}` could be two different values"
                sink.error("FT041", text, node.span, labels=labels, help="rename one of them")
                return

    # --- without a type

    def natural(self, node: tree.Expression, scope: Scope, sink: Sink) -> Raw:
        """The value before conversion to a type."""
        match node:
            case tree.Quantity():
                return arithmetic.quantity(node, sink)
            case tree.Constant():
                return Lit(node.value, node.span)
            case tree.Call():
                return Invoke(node, scope, node.span)
            case tree.Missing():
                return Broken(node.span)
        with self.deeper(node.span) as readable:
            return self._natural(node, scope, sink) if readable else Broken(node.span)

    def _natural(self, node: tree.Expression, scope: Scope, sink: Sink) -> Raw:
        match node:
            case tree.Text():
                return texts.text(self, node, scope, sink)
            case tree.Ref():
                return self._natural_ref(node, scope, sink)
            case tree.ListOf():
                return self._listed(node, scope, sink)
            case tree.Negative():
                return arithmetic.negative(self._number(node.value, scope, sink), node.span, sink)
            case tree.Binary():
                return self._binary(node, scope, sink)
            case _:
                return Broken(node.span)

    def _bare_name(self, node: tree.Expression, scope: Scope) -> bool:
        """Whether a product looks like a path: no blanks, and several names, none of which is defined."""
        names = unquoted.leaves(node)
        return (
            "/" in node.span.text
            and unquoted.is_name(node.span.text)
            and (len(names) > 1 or unquoted.is_path(node.span.text))
            and not any(self._is_defined(name, scope) for name in names)
        )

    def _is_defined(self, node: tree.Ref, scope: Scope) -> bool:
        return next(iter(self.names.candidates(tuple(w.text for w in node.path), scope)), None) is not None

    def _binary(self, node: tree.Binary, scope: Scope, sink: Sink) -> Raw:
        if self._bare_name(node, scope):
            unquoted.report(node.span, "", sink)
            return Broken(node.span)
        left, right = self._number(node.left, scope, sink), self._number(node.right, scope, sink)
        if node.op == "..":
            return Between(left, right, node.span)
        return arithmetic.combine(node.op, left, right, node.span, sink)

    def _listed(self, node: tree.ListOf, scope: Scope, sink: Sink) -> Raw:
        items = tuple(self.natural(item, scope, sink) for item in node.items)
        size = sum(item.size if isinstance(item, Lst) else 1 for item in items)
        if size > MAX_ITEMS:
            sink.error("FT003", f"this list has more than {MAX_ITEMS:,} items", node.span)
            return Broken(node.span)
        return Lst(items, node.span, size)

    def _number(self, node: tree.Expression, scope: Scope, sink: Sink) -> Raw:
        """An operand; for a name, the innermost symbol that is a number."""
        if not isinstance(node, tree.Ref):
            return self.natural(node, scope, sink)
        path = tuple(w.text for w in node.path)
        numbers: list[Raw] = []
        symbols: list[Symbol] = []
        poisoned = False
        for symbol in self.names.candidates(path, scope):
            with self.tracing() as trace:
                raw = self.look_up(symbol, node, sink if isinstance(symbol, StageSymbol) else Sink())
            poisoned |= isinstance(raw, Broken)
            symbols.append(symbol)
            if isinstance(raw, Num):
                if not numbers:
                    self.used(node.span, symbol)
                numbers.append(raw)
                self.trace.absorb(trace)
        if not numbers:
            if not poisoned and not any(map(self._is_wrong, symbols)):
                self._no_number(node, path, scope, sink)
            return Broken(node.span)
        if not all(same(numbers[0], other) for other in numbers[1:]):
            sink.error(
                "FT041", f"`{node.span.text}` could be two different values", node.span, help="rename one of them"
            )
        return numbers[0]

    def _is_wrong(self, symbol: Symbol) -> bool:
        """Whether it is a key with a value that it does not take, which is reported at the key."""
        if not isinstance(symbol, KeySymbol) or (value := symbol.entry.value) is None:
            return False
        entry, key = symbol.entry, keys.find(symbol.view.kind, symbol.entry.path)
        scope = Scope(entry.module, symbol.view, entry.path[:-1], entry.path)
        with self.tracing():
            return isinstance(key, Key) and self.typed(value, key, scope, Sink()) is WRONG

    def _no_number(self, node: tree.Ref, path: tuple[str, ...], scope: Scope, sink: Sink) -> None:
        """Report a name without a number, once per value."""
        key = (id(scope.module), scope.own, self._memos.innermost, path)
        if self._unknown.setdefault(key, node.span) is not node.span:
            return
        choices = [*scope.module.lets, *scope.module.params]
        guess = closest(path[-1], choices) if len(path) == 1 and len(choices) <= MAX_NEAR else None
        label = f"did you mean `{guess}`?" if guess else ""
        sink.error("FT040", f"`{node.span.text}` does not name a number", node.span, label=label)

    def _natural_ref(self, node: tree.Ref, scope: Scope, sink: Sink) -> Raw:
        path = tuple(w.text for w in node.path)
        for symbol in self.names.candidates(path, scope):
            self.uses.setdefault((node.span.source.name, node.span.start), symbol)  # a wanted type may know better
            return self.look_up(symbol, node, sink)
        return Bare(node.path, node.span)

    def used(self, span: Span, symbol: Symbol) -> None:
        """Keep what a name turned out to refer to, for editors."""
        self.uses[span.source.name, span.start] = symbol

    def look_up(self, symbol: Symbol, node: tree.Ref, sink: Sink) -> Raw:
        """The value of a symbol, with the span of its use, so that messages point there.

        Errors in its declaration are not reported here; they are collected in `causes`.
        """
        match symbol:
            case StageSymbol():
                return self.stage(symbol, node.span, sink)
            case BestSymbol():
                return Choice(Term("search.best"), node.span)
            case KeySymbol():
                scope = Scope(symbol.entry.module, symbol.view, symbol.entry.path[:-1], symbol.entry.path)
                memo = self._once(
                    _identity(symbol), symbol, node, lambda inner_sink: self.entry(symbol.entry, scope, inner_sink)
                )
            case LetSymbol():
                memo = self._once(
                    _identity(symbol),
                    symbol,
                    node,
                    lambda inner_sink: self.let(symbol.let, Scope(symbol.module), inner_sink),
                )
            case ParamSymbol():
                memo = self._once(
                    _identity(symbol), symbol, node, lambda inner_sink: self._param(symbol, node, inner_sink)
                )
        if memo is None:
            self._by_itself(node, sink, None)
            return Broken(node.span)
        self.trace.absorb(memo.trace)
        raw: Raw = memo.data if isinstance(memo.data, Invoke) else replace(memo.data, span=node.span)
        return raw

    def _by_itself(self, node: tree.Ref, sink: Sink, data: Any) -> Any:
        problem = Diagnostic("FT042", f"`{node.span.text}` is defined in terms of itself", node.span)
        sink.add(problem)
        self.causes.append(problem)
        return data

    def _once(self, key: tuple[object, ...], owner: object, node: tree.Ref, work: Callable[[Sink], Any]) -> Memo | None:
        """The result for a key, computed once; None while it is being computed, which means a cycle."""
        if (memo := self._memos.get(key)) is not None:
            return memo
        if self._memos.is_open(key):
            return None

        def traced(inner_sink: Sink) -> tuple[Any, Trace]:
            with self.tracing() as trace:
                return work(inner_sink), trace

        memo = self._memos.evaluate(key, owner, traced)
        if isinstance(memo.data, Broken) and not (isinstance(owner, KeySymbol) and owner.view.name):
            self.causes += memo.problems  # the stage itself evaluates and reports its keys
        return memo

    def as_text(self, symbol: Symbol, raw: Invoke, node: tree.Ref) -> tuple[str | StageRef, ...] | None:
        """A named call as part of a text."""
        memo = self._once(("text", *_identity(symbol)), symbol, node, lambda inner_sink: texts.call_as_text(self, raw))
        if memo is None:
            self._by_itself(node, Sink(), None)
            return None
        self.trace.absorb(memo.trace)
        written: tuple[str | StageRef, ...] | None = memo.data
        return written

    def declared_let(self, let: tree.Let, module: Module, sink: Sink) -> Raw:
        """The value of a `let`, at its declaration."""
        return self.look_up(LetSymbol(let, module), tree.Ref((let.name,), let.name.span), sink)

    def let(self, let: tree.Let, scope: Scope, sink: Sink) -> Raw:
        """The natural value of a `let`, whatever its binder."""
        if let.binder is tree.Binder.SWEPT:
            chosen = self.swept(let.value, let.name.text, id(let), scope, sink)
            return self.natural(chosen, scope, sink) if isinstance(chosen, tree.Expression) else chosen
        if let.binder is tree.Binder.SAMPLED:
            return self._sampled(let.value, let.name.text, let, scope, sink)
        return self.natural(let.value, scope, sink)

    def _param(self, symbol: ParamSymbol, node: tree.Ref, sink: Sink) -> Raw:
        name = symbol.param.name.text
        if name in self.given:
            expression, scope = self.given[name]
            return self.natural(expression, scope, sink)
        if symbol.param.default is None:
            return Broken(node.span)  # reported at its declaration
        return self.natural(symbol.param.default, Scope(symbol.module), sink)

    def stage(self, symbol: StageSymbol, span: Span, sink: Sink) -> Stg | Broken:
        """The variant of a stage under the current assignment; the axes of the stage are added to the trace."""
        variants = self.variants(symbol.name, span, sink)
        if not variants:
            self.trace.local = True
            return Broken(span)
        run = variants[0][0]
        for name, assignment, axes in variants:
            self.trace.axes |= axes
            if all(self.assignment.get(axis, 0) == index for axis, index in assignment.items()):
                run = name
        ref = StageRef(symbol.name, symbol.part, run)
        self.trace.refs.setdefault(ref, span)
        return Stg(ref, span)

    # --- binders

    def entry(self, entry: Entry, scope: Scope, sink: Sink) -> Raw:
        """The natural value of a key, whatever its binder."""
        self.trace.local |= bool(scope.view and scope.view.name)
        assert entry.value is not None
        if entry.binder is tree.Binder.SWEPT:
            chosen = self.swept(entry.value, entry.path[-1], id(entry), scope, sink)
            return self.natural(chosen, scope, sink) if isinstance(chosen, tree.Expression) else chosen
        if entry.binder is tree.Binder.SAMPLED:
            return self._sampled(entry.value, ".".join(entry.path), entry, scope, sink)
        return self.natural(entry.value, scope, sink)

    def swept(self, value: tree.Expression, label: str, axis: int, scope: Scope, sink: Sink) -> tree.Expression | Raw:
        """The current value of an axis: an expression of a literal list, else a raw value."""
        items: tuple[tree.Expression, ...] | tuple[Raw, ...] = ()
        if isinstance(value, tree.ListOf):
            items = value.items
        elif isinstance(raw := self.natural(value, scope, sink), Lst):
            items = raw.items
        if not items:
            sink.error("FT083", "`in` needs a non-empty list", value.span, help="write `seed in [1, 2, 3]`")
            return Broken(value.span)
        self.trace.axes[axis] = Axis(axis, label, names_of([item.span.text for item in items]))
        return items[min(self.assignment.get(axis, 0), len(items) - 1)]

    def _sampled(self, value: tree.Expression, key: str, owner: object, scope: Scope, sink: Sink) -> Raw:
        chosen = self.sampled(value, key, owner, scope, sink)
        known = Broken(value.span) if chosen is None else chosen
        return known if isinstance(known, Num | Broken) else self.natural(known, scope, sink)

    def sampled(
        self, value: tree.Expression, key: str, owner: object, scope: Scope, sink: Sink
    ) -> tree.Expression | Num | None:
        """The value that the trial gives a dimension; without a trial one that stands for all of them."""
        dimension = self.dimension(value, key, owner, scope, sink)
        if dimension is None:
            return None
        self.trace.dimensions[dimension.name] = dimension
        return dimensions.value_of(
            dimension, value, self.trial.get(dimension.name, dimension.representative), self.session.sink
        )

    def dimension(self, value: tree.Expression, key: str, owner: object, scope: Scope, sink: Sink) -> Dimension | None:
        """What a sampled value spans, read once. owner: the `let` or the entry of the key; key: its name there."""
        if not self.names.searched:
            text = f"`{key}` is sampled without a `search` block"
            sink.error("FT081", text, value.span, help="add `search { goal = minimize(…), trials = 20 }`")
            return None
        if id(value) not in self._dimensions:
            name = self.dimension_names.get(id(owner), key)
            dimension = dimensions.read(self, value, name, key, scope, self.session.sink)
            self._dimensions[id(value)] = (
                dimensions.with_own_value(self, dimension, owner, scope, sink) if dimension else None
            )
        return self._dimensions[id(value)]


def _identity(symbol: Symbol) -> tuple[object, ...]:
    """The identity of a symbol: its declaration, and for a key of a stage the view of the stage."""
    match symbol:
        case KeySymbol():
            return ("key", id(symbol.entry), id(symbol.view))
        case LetSymbol():
            return ("let", id(symbol.let))
        case ParamSymbol():
            return ("param", id(symbol.param))
    return (id(symbol),)


__all__ = ["Evaluator"]
