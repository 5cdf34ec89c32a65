"""Scopes: what a name may mean, from the own block outward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ftdsl.language import tree
from ftdsl.language.resolve.layers import Effective, Entry
from ftdsl.language.resolve.load import Module
from ftdsl.language.resolve.words import Path
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
class Place:
    """Where an expression stands: its module, its stage if in one, its block, and its own key (which it cannot see)."""

    module: Module
    view: View | None = None
    prefix: Path = ()
    own: Path | None = None


@frozen
class KeyFound:
    """A key of the stage or a shared key: evaluated where it was written."""

    entry: Entry
    view: View


@frozen
class LetFound:
    let: tree.Let
    module: Module


@frozen
class ParamFound:
    param: tree.Param
    module: Module


@frozen
class StageFound:
    name: str
    part: str


@frozen
class BestFound:
    """`search.best`."""


Found = KeyFound | LetFound | ParamFound | StageFound | BestFound


@mutable
class Names:
    """Everything a recipe declares: stages by name with their kind, shared keys as a view of their own, templates."""

    stages: Mapping[str, str]
    shared: View
    searched: bool = False
    declared: Sequence[str] = ()

    def candidates(self, path: Path, place: Place) -> Iterator[Found]:
        """What `path` may mean at `place`, innermost first; a key never sees itself."""
        seen: set[int] = set()
        for found in self._keys(path, place):
            if id(found.entry) not in seen:
                seen.add(id(found.entry))
                yield found
        yield from self._declared(path, place.module)
        if path[0] in self.stages and (len(path) <= 2 or path[1] in ("metrics",)):
            yield StageFound(path[0], ".".join(path[1:]))
        if path == ("search", "best") and self.searched:
            yield BestFound()

    def _keys(self, path: Path, place: Place) -> Iterator[KeyFound]:
        views = [place.view] if place.view else []
        for view in (*views, self.shared):
            prefix = place.prefix if view is place.view else ()
            for depth in range(len(prefix), -1, -1):
                at = (*prefix[:depth], *path)
                entry = view.effective.entries.get(at)
                if entry is not None and entry.value is not None and at != place.own:
                    yield KeyFound(entry, view)

    def _declared(self, path: Path, module: Module) -> Iterator[Found]:
        if len(path) == 1 and (let := module.lets.get(path[0])):
            yield LetFound(let, module)
        if len(path) == 1 and (param := module.params.get(path[0])):
            yield ParamFound(param, module)
        if len(path) > 1 and (inner := module.aliases.get(path[0])):
            yield from self._declared(path[1:], inner)
