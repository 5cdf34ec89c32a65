"""The values of profiles that are not chosen: each is held against its key, as if its profile were chosen alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ftdsl.catalog.vocabulary import Key
from ftdsl.diagnostics import Diagnostic, Sink
from ftdsl.language import tree
from ftdsl.language.resolve import keys
from ftdsl.language.resolve.declare import Declarations, Declared, profile_layers
from ftdsl.language.resolve.evaluate import Evaluator
from ftdsl.language.resolve.layers import Effective, Entry, Layer
from ftdsl.language.resolve.load import Module
from ftdsl.language.resolve.names import Scope, View
from ftdsl.record import frozen, replace

OF_ANOTHER_MACHINE = ("FT044", "FT045", "FT048", "FT098")
"""A variable of the environment, a parameter or a study that is not there may be where the profile is meant for."""


@frozen
class Unchosen:
    """edits: of each profile, by the id of its block; effective: the entries of a stage under these edits; value: the value of
    an entry, what is wrong with it goes to the sink."""

    module: Module
    declarations: Declarations
    ev: Evaluator
    edits: Mapping[int, list[Layer]]
    effective: Callable[[Declared, Sequence[Layer]], Effective]
    value: Callable[[Entry, Key, Scope, Sink], Any]

    def check(self, chosen: Iterable[str], sink: Sink) -> None:
        """Report what is wrong in profiles that none of the chosen ones inherits."""
        used = {id(layer) for name in chosen for layer in profile_layers(name, self.module, self.edits)}
        env, causes = dict(self.ev.env_used), len(self.ev.causes)
        known = {(diagnostic.code, diagnostic.span) for diagnostic in sink}
        for name, block in self.module.profiles.items():
            for layer in self.edits.get(id(block), ()):
                for diagnostic in self._layer(name, layer) if id(layer) not in used else ():
                    if diagnostic.code not in OF_ANOTHER_MACHINE and (diagnostic.code, diagnostic.span) not in known:
                        text = f"in profile `{name}`: {diagnostic.message}"
                        sink.add(replace(diagnostic, message=text))
        self.ev.env_used.clear()
        self.ev.env_used.update(env)
        del self.ev.causes[causes:]

    def _layer(self, name: str, layer: Layer) -> Iterator[Diagnostic]:
        """The diagnostics of the values of a layer."""
        stages = [layer.target] if layer.target else [*self.declarations.stages, ""]
        views: dict[str, View] = {}  # a chain of profiles is gone through for what refers to others only
        for entry in layer.entries:
            stage = next((stage for stage in stages if self._key(stage, entry)), None)
            if entry.value is None or entry.is_reset or stage is None:
                continue
            if isinstance(entry.value, tree.Quantity | tree.Constant):
                yield from self._entry(entry, View(stage, Effective(self._kind(stage))))
                continue
            if stage not in views:
                views[stage] = View(stage, self._effective(stage, profile_layers(name, self.module, self.edits)))
            yield from self._entry(entry, views[stage])

    def _effective(self, stage: str, edits: Sequence[Layer]) -> Effective:
        if stage in self.declarations.stages:
            return self.effective(self.declarations.stages[stage], edits)
        shared = Effective(self._kind(stage))  # of the file, or of a stage of a file that includes this one
        for layer in (*self.declarations.shared, *(edit for edit in edits if edit.target in ("", stage))):
            shared.put(layer.entries)
        return shared

    def _kind(self, stage: str) -> str:
        declared = self.declarations.stages.get(stage)
        return declared.kind if declared else stage or "file"

    def _key(self, stage: str, entry: Entry) -> Key | None:
        key = keys.find(self._kind(stage), entry.path)
        return key if isinstance(key, Key) else None

    def _entry(self, entry: Entry, view: View) -> Sink:
        """What is wrong with the value, with each of them where it is swept."""
        key, sink = self._key(view.name, entry), Sink()
        assert key is not None
        count, at = 1, 0
        while at < count:
            with self.ev.under({id(entry): at}) as trace:
                scope = Scope(entry.module, view if view.name else None, entry.path[:-1], entry.path)
                self.value(entry, key, scope, sink)
            if id(entry) in trace.axes:
                count = len(trace.axes[id(entry)].names)
            at += 1
        return sink
