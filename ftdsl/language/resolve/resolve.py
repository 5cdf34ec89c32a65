"""Trees to values: layers are laid over each other, names looked up, axes expanded; every value keeps its origin."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any

from ftdsl.catalog.vocabulary import Key
from ftdsl.diagnostics import Sink, guessed
from ftdsl.diagnostics.suggest import closest
from ftdsl.language import tree
from ftdsl.language.resolve import words
from ftdsl.language.resolve.coerce import coerce
from ftdsl.language.resolve.declare import (
    Declarations,
    Declared,
    declare,
    known_profile,
    profile_edits,
    profile_layers,
    set_layers,
)
from ftdsl.language.resolve.evaluate import Evaluator
from ftdsl.language.resolve.layers import Effective, Entry, Layer
from ftdsl.language.resolve.load import Module, load
from ftdsl.language.resolve.names import Found, Names, Place, StageFound, View
from ftdsl.language.resolve.parameters import check_call, name_of, param_type, parsed
from ftdsl.language.resolve.raw import WRONG, Broken, Invoke, Stg
from ftdsl.language.resolve.trace import Axis, Dimension, Trace
from ftdsl.language.resolve.words import Path
from ftdsl.language.types import parse_type
from ftdsl.language.values import Origin, StageRef, Value
from ftdsl.record import frozen, mutable
from ftdsl.session import Session
from ftdsl.source import Span

MAX_VARIANTS = 256
"""Runs one stage may expand to; more is a search, not a sweep."""

_RECIPE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@frozen
class Options:
    """What the command line adds: profiles in order, `--set` and `-p` texts (`name=value`)."""

    profiles: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    params: tuple[str, ...] = ()


@frozen
class ResolvedStage:
    """A stage of one variant: typed values by path, blocks that are there, and the stages it refers to.

    unknown: keys that were said, and whose value an error has taken; readable: False when a part of it could not be read.
    """

    declared: Declared
    run: str
    values: Mapping[Path, Value]
    blocks: Mapping[Path, Span]
    taken_back: frozenset[Path]
    parents: tuple[StageRef, ...]
    refs: Mapping[StageRef, Span]
    dimensions: Mapping[str, Dimension]
    keys: Mapping[Path, Span]
    layers: Sequence[Entry]
    unknown: frozenset[Path] = frozenset()
    readable: bool = True

    @property
    def name(self) -> str:
        return self.declared.name

    @property
    def key(self) -> str:
        return f"{self.name}@{self.run}" if self.run else self.name


@frozen
class Resolved:
    """All of a recipe as values; stages stand in an order in which each comes after what it refers to.

    uses: what a name means, by its source's name and offset, as far as it was evaluated.
    """

    module: Module
    name: str
    file: Mapping[Path, Value]
    stages: tuple[ResolvedStage, ...]
    templates: Mapping[str, Mapping[Path, Value]]
    search: Mapping[Path, Value] | None
    env: Mapping[str, str]
    doc: str = ""
    uses: Mapping[tuple[str, int], Found] = field(default_factory=dict)


def resolve(path: FilePath, name: str, options: Options, session: Session) -> Resolved | None:
    """The recipe at `path`, called `name` in messages. None only when it cannot be read at all."""
    module = load(path, name, session)
    return _Resolver(module, options, session).run() if module else None


@mutable
class _Variant:
    run: str
    assignment: dict[int, int]
    axes: dict[int, Axis]
    stage: ResolvedStage | None = None


@mutable
class _Resolver:
    module: Module
    options: Options
    session: Session
    found: Declarations = field(init=False)
    ev: Evaluator = field(init=False)
    edits: list[Layer] = field(default_factory=list)
    swept_profiles: tuple[Axis, list[list[Layer]]] | None = None
    done: dict[str, list[_Variant]] = field(default_factory=dict)
    order: list[ResolvedStage] = field(default_factory=list)
    stack: list[str] = field(default_factory=list)
    lost: list[Entry] = field(default_factory=list)

    def run(self) -> Resolved:
        self.found = declare(self.module, self.session)
        self._take_profiles()
        shared = Effective("file")
        for layer in (*self._named(), *self.found.shared, *(edit for edit in self.edits if not edit.target)):
            shared.put(layer.entries, self.session.sink)
        names = Names(
            {n: s.kind for n, s in self.found.stages.items()}, View("", shared), self.found.search is not None
        )
        names.declared = tuple(self.found.templates)
        self.ev = Evaluator(self.session, names, self._given())
        self.ev.variants, self.ev.best_of = self._variants, self._best_of
        self._check_declared()
        for stage in self.found.stages:
            self._expand(stage)
        file = self._values(View("", shared), only=words.FILE_KEYS)
        self._tell_causes()
        return Resolved(
            self.module,
            self._recipe_name(file),
            file,
            tuple(self.order),
            {name: self._block("template", entries) for name, (_, entries) in self.found.templates.items()},
            self._block("search", self.found.search[1]) if self.found.search else None,
            self.ev.env_used,
            self.found.doc,
            self.ev.uses,
        )

    def _tell_causes(self) -> None:
        """What made names wrong; and no value is lost in silence, should its cause have been passed over."""
        sink = self.session.sink
        for cause in self.ev.causes:
            sink.add(cause)
        if not sink.failed:
            for entry in self.lost:
                span = entry.value.span if entry.value else entry.span
                sink.error("FT040", f"`{'.'.join(entry.path)}` cannot be worked out", span)

    # --- what stands around the stages

    def _named(self) -> list[Layer]:
        """The default of `name`: the file's stem."""
        source = self.module.file.source
        start = Span(source, 0, 0)
        text = tree.Text((name_of(self.module.path.stem),), start)
        entry = Entry(("name",), start, tree.Binder.FIXED, text, Origin("default"), self.module)
        return [Layer("", (entry,))]

    def _recipe_name(self, file: Mapping[Path, Value]) -> str:
        value = file.get(("name",))
        if value is None:
            return "recipe"
        if not _RECIPE_NAME.fullmatch(str(value.data)):
            text = f"`{value.data}` cannot name a recipe"
            self.session.sink.error("FT046", text, value.span, help="letters, digits, `.`, `_` and `-`")
            return "recipe"
        return str(value.data)

    @cached_property
    def profile_edits(self) -> Mapping[int, list[Layer]]:
        return profile_edits(self.module, self.found, self.session)

    def _take_profiles(self) -> None:
        chosen: list[str] = []
        for layer in self.found.shared:
            for entry in layer.entries:
                if entry.path == ("profile",) and entry.value is not None:
                    chosen += self._profile_key(entry)
        names = [*chosen, *(p for p in self.options.profiles if known_profile(p, self.module, self.session))]
        edits = self.profile_edits
        for name in names:
            self.edits += profile_layers(name, self.module, edits)
        self.edits += set_layers(self.options.sets, self.module, self.found, self.session)

    def _profile_key(self, entry: Entry) -> list[str]:
        """`profile = a` chooses; `profile in [a, b]` is an axis over what the profiles edit."""
        value = entry.value
        items = value.items if isinstance(value, tree.ListOf) else (value,) if value else ()
        names = [item.span.text.strip("\"'") for item in items]
        for name, item in zip(names, items, strict=True):
            if self.module.profile(name) is None:
                guess = closest(name, self.module.profiles)
                label = f"did you mean `{guess}`?" if guess else ""
                self.session.sink.error("FT080", f"there is no profile `{name}`", item.span, label=label)
                return []
        if entry.binder is not tree.Binder.SWEPT:
            return names
        layers = [profile_layers(name, self.module, self.profile_edits) for name in names]
        self.swept_profiles = (Axis(id(entry), "profile", tuple(names)), layers)
        return []

    def _given(self) -> dict[str, tuple[tree.Expression, Place]]:
        """`-p name=value`; a bare word is taken as text where the parameter is one."""
        given: dict[str, tuple[tree.Expression, Place]] = {}
        for text in self.options.params:
            name, equals, value = text.partition("=")
            name = name.strip()
            param = self.module.params.get(name)
            if param is None or not equals:
                guess = closest(name, self.module.params)
                known = f"parameters here: {', '.join(self.module.params) or 'none'}"
                label = f"did you mean `{guess}`?" if guess else ""
                self.session.sink.error("FT044", f"there is no parameter `{name}`", None, label=label, help=known)
                continue
            given[name] = (parsed(text, value, param, self.session), Place(self.module))
        return given

    def _check_declared(self) -> None:
        """Lets and parameters are checked even where nothing uses them."""
        sink = self.session.sink
        for module in self.module.everywhere():
            for let in module.lets.values():
                with self.ev.tracing():
                    raw = self.ev.known_let(let, module, sink)
                if isinstance(raw, Invoke) and let.binder is not tree.Binder.SAMPLED:
                    check_call(raw, self.session)
            for param in module.params.values():
                self._check_param(param, module)

    def _check_param(self, param: tree.Param, module: Module) -> None:
        name = param.name.text
        if param.default is None and name not in self.ev.given:
            if not (param.type and param.type.optional):
                help = f"give it: -p {name}=…"
                self.session.sink.error("FT045", f"parameter `{name}` has no value", param.name.span, help=help)
            return
        if param.type is None:
            return
        kind = param_type(param.type, self.session)
        expression, place = self.ev.given.get(param.name.text, (param.default, Place(module)))
        if kind and expression is not None and not (isinstance(expression, tree.Constant) and param.type.optional):
            with self.ev.tracing():
                self.ev.typed(expression, Key(name=param.name.text, type=kind, empty=True), place, self.session.sink)

    def _block(self, kind: str, entries: Sequence[Entry]) -> dict[Path, Value]:
        effective = Effective(kind)
        effective.put(entries)
        with self.ev.tracing():
            return self._values(View(kind, effective))

    # --- stages and their variants

    def _variants(
        self, name: str, span: Span, sink: Sink
    ) -> list[tuple[str, Mapping[int, int], Mapping[int, Axis]]] | None:
        """None, with the reason in the sink, for a stage that is being resolved: it waits for this one."""
        if name in self.stack:
            chain = " -> ".join([*self.stack[self.stack.index(name) :], name])
            own = name == self.stack[-1]
            text = f"`{name}` cannot use what it makes itself" if own else f"stages wait for each other: {chain}"
            sink.error("FT621", text, span)
            return None
        return [(v.run, v.assignment, v.axes) for v in self._expand(name)]

    def _best_of(self, name: str, span: Span) -> list[StageRef]:
        variants = self._variants(name, span, self.session.sink) or []
        return [StageRef(name, "", run) for run, _, _ in variants]

    def _expand(self, name: str) -> list[_Variant]:
        """All variants of a stage; it is evaluated until no axis it depends on is left open."""
        if name in self.done:
            return self.done[name]
        declared = self.found.stages[name]
        self.stack.append(name)
        todo: list[dict[int, int]] = [{}]
        variants: list[_Variant] = []
        while todo:
            assignment = todo.pop(0)
            stage, trace = self._evaluate(declared, assignment, "")
            open_axes = [axis for axis in trace.axes.values() if axis.id not in assignment]
            if open_axes:
                first = open_axes[0]
                todo = [{**assignment, first.id: at} for at in range(len(first.names))] + todo
            else:
                variants.append(self._close(declared, assignment, trace, stage))
            if len(todo) + len(variants) > MAX_VARIANTS:
                text = f"`{name}` would run more than {MAX_VARIANTS} times"
                self.session.sink.error("FT083", text, declared.block.header, help="use `~` and a `search { }`")
                one = variants[0].stage if variants else self._evaluate(declared, {}, "")[0]
                variants = [_Variant("", {}, {}, one)]  # what comes after it is judged for one run
                break
        self.stack.pop()
        self.done[name] = variants
        self.order += [v.stage for v in variants if v.stage]
        return variants

    def _close(self, declared: Declared, assignment: dict[int, int], trace: Trace, stage: ResolvedStage) -> _Variant:
        """With its variant named, the stage is evaluated once more, so that `{run}` is known."""
        axes = {axis: trace.axes[axis] for axis in assignment if axis in trace.axes}
        run = ",".join(f"{axis.label}={axis.names[assignment[id]]}" for id, axis in axes.items())
        if run:
            stage, _ = self._evaluate(declared, assignment, run)
        return _Variant(run, {axis: assignment[axis] for axis in axes}, axes, stage)

    def _evaluate(self, declared: Declared, assignment: dict[int, int], run: str) -> tuple[ResolvedStage, Trace]:
        with self.ev.under(assignment) as trace:
            view = View(declared.name, self._effective(declared), run)
            parents = self._parents(declared)
            values = self._values(view)
        keys = {path: e.span for path, e in view.effective.entries.items()}
        blocks = {path: span for path, span in keys.items() if view.effective.entries[path].value is None}
        stage = ResolvedStage(
            declared,
            run,
            values,
            blocks,
            frozenset(view.effective.taken_back),
            parents,
            {ref: span for ref, span in trace.refs.items() if ref.stage != declared.name},
            trace.dimensions,
            keys,
            view.effective.layers,
            frozenset(path for path in keys if path not in blocks and path not in values),
            self._file_readable and not tree.has_bad(declared.block.body),
        )
        return stage, trace

    @cached_property
    def _file_readable(self) -> bool:
        return not tree.has_bad(self.module.file.items)

    def _effective(self, declared: Declared) -> Effective:
        effective = Effective(declared.kind)
        for layer in self.found.shared:
            effective.put(layer.entries)
        if copied := self._settings(declared):
            effective.put(copied.entries)
        effective.put(declared.entries, self.session.sink)
        for edit in (*self._profile_axis(declared), *self.edits):
            if edit.target in ("", declared.name):
                effective.put(edit.entries)
        return effective

    def _profile_axis(self, declared: Declared) -> Sequence[Layer]:
        if self.swept_profiles is None:
            return ()
        axis, layers = self.swept_profiles
        self.ev.trace.axes[axis.id] = axis
        return layers[self.ev.assignment.get(axis.id, 0)]

    def _settings(self, declared: Declared) -> Declared | None:
        """`settings = sft` copies what that stage says; `settings = search.best` what the searched stage says."""
        for entry in declared.entries:
            if entry.path == ("settings",) and isinstance(entry.value, tree.Ref):
                name = entry.value.path[0].text
                return self._searched() if name == "search" else self.found.stages.get(name)
        return None

    def _searched(self) -> Declared | None:
        """The stage whose metric the search's goal names."""
        entries = self.found.search[1] if self.found.search else ()
        goal = next((e.value for e in entries if e.path == ("goal",)), None)
        call = goal.items[0] if isinstance(goal, tree.ListOf) and goal.items else goal
        argument = call.arguments[0].value if isinstance(call, tree.Call) and call.arguments else None
        return self.found.stages.get(argument.path[0].text) if isinstance(argument, tree.Ref) else None

    def _parents(self, declared: Declared) -> tuple[StageRef, ...]:
        refs: list[StageRef] = []
        for parent in declared.block.parents:
            name = parent.path[0].text
            if name == declared.name:
                self.session.sink.error("FT621", f"`{name}` cannot start from itself", parent.span)
                continue
            if name not in self.found.stages:
                guess = closest(name, self.found.stages)
                label = f"did you mean `{guess}`?" if guess else ""
                known = f"stages here: {', '.join(self.found.stages)}"
                fix = guessed(parent.span, guess)
                text = f"there is no stage `{name}`"
                self.session.sink.error("FT620", text, parent.span, label=label, help=known, fix=fix)
                continue
            if len(parent.path) > 1:
                part = ".".join(word.text for word in parent.path[1:])
                help = f"write `from {name}`"
                if part.startswith(("best", "last", "checkpoint")):
                    help += "; which checkpoint its result is, `save { best_by = … }` in that stage says"
                text = f"`from` takes what `{name}` makes, and that has no part `{part}`"
                self.session.sink.error("FT040", text, parent.span, help=help)
                continue
            found = self.ev.stage(StageFound(name, ""), parent.span, self.session.sink)
            refs += [found.ref] if isinstance(found, Stg) else []
        return tuple(refs)

    # --- values

    def _values(self, view: View, only: Sequence[str] = ()) -> dict[Path, Value]:
        values: dict[Path, Value] = {}
        for path, entry in view.effective.entries.items():
            if entry.value is None or (only and path[0] not in only):
                continue
            key = words.find(view.kind, path)
            if not isinstance(key, Key):
                continue
            with self.ev.tracing() as trace:
                data = self._value(entry, key, Place(entry.module, view if view.name else None, path[:-1], path))
            if data is WRONG:
                trace.refs = {}  # what is wrong waits for nothing
            self.ev.trace.absorb(trace)
            if data is not WRONG:
                values[path] = Value(data, entry.value.span, entry.origin)
            elif not isinstance(entry.value, tree.Missing):
                self.lost.append(entry)
        return values

    def _value(self, entry: Entry, key: Key, place: Place) -> Any:
        assert entry.value is not None
        sink = self.session.sink
        chosen: Any = entry.value
        if entry.binder is tree.Binder.SWEPT:
            chosen = self.ev.swept(entry.value, entry.path[-1], id(entry), place, sink)
        elif entry.binder is tree.Binder.SAMPLED:
            chosen = self.ev.sampled(entry.value, ".".join(entry.path), sink)
        if chosen is None or isinstance(chosen, Broken | tree.Missing):
            return WRONG
        if isinstance(chosen, tree.Expression):
            return self.ev.typed(chosen, key, place, sink)
        return coerce(self.ev, chosen, parse_type(key.type), key, sink)
