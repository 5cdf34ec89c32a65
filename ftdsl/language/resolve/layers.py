"""Layers: what the file, the stage, the profiles and `--set` say, flattened to one entry a key; the stronger wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from ftdsl.diagnostics import Label, Sink
from ftdsl.language import tree
from ftdsl.language.resolve import keys
from ftdsl.language.resolve.keys import Path
from ftdsl.language.resolve.load import Module
from ftdsl.language.values import Origin
from ftdsl.record import frozen, mutable, replace
from ftdsl.source import Span


@frozen
class Entry:
    """One key with its value, or (value None) a block that is there. `span` is the key's.

    guessed: nobody wrote this key; it is what a wrong one probably meant, so that nothing is said of what it lacks.
    """

    path: Path
    span: Span
    binder: tree.Binder
    value: tree.Expression | None
    origin: Origin
    module: Module
    guessed: bool = False

    @property
    def takes_back(self) -> bool:
        """`key = null`: back to what would be without it."""
        return isinstance(self.value, tree.Constant) and self.value.value is None and self.binder is tree.Binder.FIXED


@frozen
class Layer:
    """Entries of one strength, for a stage (`target` its name) or shared (target "")."""

    target: str
    entries: tuple[Entry, ...]


@mutable
class Effective:
    """What counts for one stage: entries by path (blocks that are there included), and what was taken back.

    `layers`: every entry that was laid here, weakest first, also those that no longer count.
    """

    kind: str
    entries: dict[Path, Entry] = field(default_factory=dict)
    taken_back: set[Path] = field(default_factory=set)
    layers: list[Entry] = field(default_factory=list)

    def put(self, layer: Sequence[Entry], sink: Sink | None = None) -> None:
        """Lay a stronger layer over this one; entries that mean nothing in this kind of stage are passed over."""
        own = [e for e in layer if e.takes_back or keys.fits(self.kind, e.path, block=e.value is None)]
        fresh = {
            e.path[0]
            for e in own
            if len(e.path) == 1 and e.path[0] in keys.methods() and not (e.takes_back or e.guessed)
        }
        if fresh:
            self._drop_methods(keep=fresh)
        for entry in own:
            self._put(entry)
        self._one_method(own, fresh, sink)

    def _put(self, entry: Entry) -> None:
        there = entry.value is None and entry.path in self.entries
        if entry.guessed and (there or self._other_method(entry.path[0])):
            return  # what is written counts, and a guess is no second method
        self.layers.append(entry)
        if entry.takes_back:
            for path in [p for p in self.entries if p[: len(entry.path)] == entry.path]:
                del self.entries[path]
            self.taken_back.add(entry.path)
            return
        for depth in range(1, len(entry.path)):
            block = entry.path[:depth]
            self.entries.setdefault(block, replace(entry, path=block, value=None, binder=tree.Binder.FIXED))
        self.taken_back.discard(entry.path)
        self.entries[entry.path] = entry

    def _other_method(self, word: str) -> bool:
        return word in keys.methods() and any(path[0] in keys.methods() - {word} for path in self.entries)

    def _drop_methods(self, keep: set[str]) -> None:
        gone = keys.methods() - keep
        for path in [p for p in self.entries if p[0] in gone]:
            del self.entries[path]

    def _one_method(self, layer: Sequence[Entry], fresh: set[str], sink: Sink | None) -> None:
        there = [e for e in layer if len(e.path) == 1 and e.path[0] in fresh and e.path in self.entries]
        if sink is None or len(there) < 2:
            return
        first, second = there[0], there[1]
        sink.error(
            "FT623",
            f"`{second.path[0]}` beside `{first.path[0]}`: a stage trains with one method",
            second.span,
            labels=(Label(first.span, "the other method"),),
        )
