"""Scopes: the symbols that a name can refer to, innermost first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ftdsl.language import tree
from ftdsl.language.resolve.keys import Path
from ftdsl.language.resolve.layers import Effective, Entry
from ftdsl.language.resolve.load import Module
from ftdsl.record import frozen, mutable
from ftdsl.source import Span


@frozen
class View:
    """A stage being resolved: its name, its entries in effect, and (once known) the name of its variant."""

    name: str
    effective: Effective
    run: str = ""

    @property
    def kind(self) -> str:
        return self.effective.kind


@frozen
class Scope:
    """The scope of an expression: its module, its stage (if any), its block, and its own key (which it cannot refer to)."""

    module: Module
    view: View | None = None
    prefix: Path = ()
    own: Path | None = None


@frozen
class KeySymbol:
    """A key of the stage, or a shared key; evaluated in its own scope."""

    entry: Entry
    view: View


@frozen
class LetSymbol:
    let: tree.Let
    module: Module


@frozen
class ParamSymbol:
    param: tree.Param
    module: Module


@frozen
class StageSymbol:
    name: str
    part: str


@frozen
class BestSymbol:
    """`search.best`."""


Symbol = KeySymbol | LetSymbol | ParamSymbol | StageSymbol | BestSymbol


def span_of(symbol: Symbol) -> Span | None:
    """Where a key, `let` or `param` is declared; None for stages."""
    match symbol:
        case KeySymbol():
            return symbol.entry.span
        case LetSymbol():
            return symbol.let.name.span
        case ParamSymbol():
            return symbol.param.name.span
    return None


@mutable
class Names:
    """All names of a recipe: kinds of stages by name, shared keys as a view, names of templates."""

    stages: Mapping[str, str]
    shared: View
    searched: bool = False
    declared: Sequence[str] = ()

    def candidates(self, path: Path, scope: Scope) -> Iterator[Symbol]:
        """The symbols that `path` can refer to in `scope`, innermost first; a key cannot refer to itself."""
        seen: set[int] = set()
        for symbol in self._keys(path, scope):
            if id(symbol.entry) not in seen:
                seen.add(id(symbol.entry))
                yield symbol
        yield from self._declared(path, scope.module)
        if path[0] in self.stages and (len(path) <= 2 or path[1] in ("metrics",)):
            yield StageSymbol(path[0], ".".join(path[1:]))
        if path == ("search", "best") and self.searched:
            yield BestSymbol()

    def _keys(self, path: Path, scope: Scope) -> Iterator[KeySymbol]:
        views = [scope.view] if scope.view else []
        for view in (*views, self.shared):
            prefix = scope.prefix if view is scope.view else ()
            for depth in range(len(prefix), -1, -1):
                at = (*prefix[:depth], *path)
                entry = view.effective.entries.get(at)
                if entry is not None and entry.value is not None and at != scope.own:
                    yield KeySymbol(entry, view)

    def _declared(self, path: Path, module: Module) -> Iterator[Symbol]:
        if len(path) == 1 and (let := module.lets.get(path[0])):
            yield LetSymbol(let, module)
        if len(path) == 1 and (param := module.params.get(path[0])):
            yield ParamSymbol(param, module)
        if len(path) > 1 and (inner := module.aliases.get(path[0])):
            yield from self._declared(path[1:], inner)
