"""Scopes: what a name may mean, from the own block outward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ftdsl.language import tree
from ftdsl.language.resolve.keys import Path
from ftdsl.language.resolve.layers import Effective, Entry
from ftdsl.language.resolve.load import Module
from ftdsl.record import frozen, mutable


@frozen
class View:
    """A stage while it is resolved: its name, what counts for it, and (last) the name of its variant."""

    name: str
    effective: Effective
    run: str = ""

    @property
    def kind(self) -> str:
        return self.effective.kind


@frozen
class Scope:
    """Where an expression stands: its module, its stage if in one, its block, and its own key (which it cannot see)."""

    module: Module
    view: View | None = None
    prefix: Path = ()
    own: Path | None = None


@frozen
class KeySymbol:
    """A key of the stage or a shared key: evaluated where it was written."""

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


@mutable
class Names:
    """Everything a recipe declares: stages by name with their kind, shared keys as a view of their own, templates."""

    stages: Mapping[str, str]
    shared: View
    searched: bool = False
    declared: Sequence[str] = ()

    def candidates(self, path: Path, scope: Scope) -> Iterator[Symbol]:
        """What `path` may mean at `place`, innermost first; a key never sees itself."""
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
