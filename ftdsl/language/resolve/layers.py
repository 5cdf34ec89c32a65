"""Layers: entries of the file, the stage, the profiles and `--set`, merged to one entry per key; the later layer wins."""

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
    """A key with its value, or (value None) a block. `span` is that of the key.

    guessed: the key was not written; it replaces an unknown one, so that checks do not report it as missing.
    """

    path: Path
    span: Span
    binder: tree.Binder
    value: tree.Expression | None
    origin: Origin
    module: Module
    guessed: bool = False

    @property
    def is_reset(self) -> bool:
        """`key = null`: reset to the value without this key."""
        return isinstance(self.value, tree.Constant) and self.value.value is None and self.binder is tree.Binder.FIXED


@frozen
class Layer:
    """Entries of one origin, for a stage (`target`: its name) or shared (target "")."""

    target: str
    entries: tuple[Entry, ...]


@mutable
class Effective:
    """The entries in effect for a stage, by path (with blocks), and the paths that were reset.

    layers: every entry applied, weakest first, including overridden ones.
    """

    kind: str
    entries: dict[Path, Entry] = field(default_factory=dict)
    reset_paths: set[Path] = field(default_factory=set)
    layers: list[Entry] = field(default_factory=list)

    def put(self, layer: Sequence[Entry], sink: Sink | None = None) -> None:
        """Apply a stronger layer; entries that this kind of stage does not have are skipped."""
        applicable = [e for e in layer if e.is_reset or keys.fits(self.kind, e.path, block=e.value is None)]
        new_methods = {
            e.path[0]
            for e in applicable
            if len(e.path) == 1 and e.path[0] in keys.methods() and not (e.is_reset or e.guessed)
        }
        if new_methods:
            self._drop_methods(keep=new_methods)
        for entry in applicable:
            self._put(entry)
        self._one_method(applicable, new_methods, sink)

    def _put(self, entry: Entry) -> None:
        is_duplicate_block = entry.value is None and entry.path in self.entries
        if entry.guessed and (is_duplicate_block or self._other_method(entry.path[0])):
            return  # a guess neither overrides a written entry nor adds a second method
        self.layers.append(entry)
        if entry.is_reset:
            for path in [p for p in self.entries if p[: len(entry.path)] == entry.path]:
                del self.entries[path]
            self.reset_paths.add(entry.path)
            return
        for depth in range(1, len(entry.path)):
            block = entry.path[:depth]
            self.entries.setdefault(block, replace(entry, path=block, value=None, binder=tree.Binder.FIXED))
        self.reset_paths.discard(entry.path)
        self.entries[entry.path] = entry

    def _other_method(self, word: str) -> bool:
        return word in keys.methods() and any(path[0] in keys.methods() - {word} for path in self.entries)

    def _drop_methods(self, keep: set[str]) -> None:
        gone = keys.methods() - keep
        for path in [p for p in self.entries if p[0] in gone]:
            del self.entries[path]

    def _one_method(self, layer: Sequence[Entry], new_methods: set[str], sink: Sink | None) -> None:
        method_entries = [e for e in layer if len(e.path) == 1 and e.path[0] in new_methods and e.path in self.entries]
        if sink is None or len(method_entries) < 2:
            return
        first, second = method_entries[0], method_entries[1]
        sink.error(
            "FT623",
            f"a stage has one method, and this has `{first.path[0]}` and `{second.path[0]}`",
            second.span,
            labels=(Label(first.span, "the other method"),),
        )
