"""Resolves trees to values: merges layers, looks up names, expands axes; every value keeps its origin."""

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
from ftdsl.language.resolve import keys
from ftdsl.language.resolve.coerce import coerce
from ftdsl.language.resolve.copied import CopiedSettings
from ftdsl.language.resolve.declare import (
    Declarations,
    Declared,
    check_profile,
    declare,
    profile_edits,
    profile_layers,
    set_layers,
)
from ftdsl.language.resolve.dimensions import Dimension, candidates, choice_of, names_in
from ftdsl.language.resolve.evaluate import Evaluator
from ftdsl.language.resolve.keys import Path
from ftdsl.language.resolve.layers import Effective, Entry, Layer
from ftdsl.language.resolve.load import Module, load
from ftdsl.language.resolve.names import Names, Scope, StageSymbol, Symbol, View
from ftdsl.language.resolve.parameters import check_call, name_of, param_type, parse_argument
from ftdsl.language.resolve.raw import WRONG, Broken, Invoke, Stg
from ftdsl.language.resolve.trace import Axis, Trace
from ftdsl.language.resolve.unchosen import Unchosen
from ftdsl.language.types import parse_type
from ftdsl.language.values import Origin, StageRef, Value
from ftdsl.record import frozen, mutable
from ftdsl.session import Session
from ftdsl.source import Span

MAX_VARIANTS = 256
"""Maximum number of runs of a stage; more needs a search instead of a sweep."""

_RECIPE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@frozen
class Trial:
    """A point of the search space: what `{run}` is called, and a text for each dimension, by its name."""

    run: str
    values: Mapping[str, str]


@frozen
class Options:
    """Options of the command line: profiles in order, `--set` and `-p` texts (`name=value`); and of a study: the trial."""

    profiles: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    params: tuple[str, ...] = ()
    trial: Trial | None = None


@frozen
class ResolvedStage:
    """One variant of a stage: typed values by path, its blocks, and the stages it refers to.

    unknown: keys that are set but whose value has an error; readable: False if a part of the stage could not be parsed.
    """

    declared: Declared
    run: str
    values: Mapping[Path, Value]
    blocks: Mapping[Path, Span]
    reset_paths: frozenset[Path]
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
    """A recipe as values; each stage comes after those it refers to. uses: symbols of names, by source name and offset."""

    module: Module
    name: str
    file: Mapping[Path, Value]
    stages: tuple[ResolvedStage, ...]
    templates: Mapping[str, Mapping[Path, Value]]
    search: Mapping[Path, Value] | None
    env: Mapping[str, str]
    doc: str = ""
    search_span: Span | None = None
    uses: Mapping[tuple[str, int], Symbol] = field(default_factory=dict)


def resolve(path: FilePath, name: str, options: Options, session: Session) -> Resolved | None:
    """The recipe at `path`, named `name` in messages; None if it cannot be read at all."""
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
    declarations: Declarations = field(init=False)
    copied: CopiedSettings = field(init=False)
    ev: Evaluator = field(init=False)
    edits: list[Layer] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)
    swept_profiles: tuple[Axis, list[list[Layer]]] | None = None
    profile_dimension: Dimension | None = None
    done: dict[str, list[_Variant]] = field(default_factory=dict)
    order: list[ResolvedStage] = field(default_factory=list)
    stack: list[str] = field(default_factory=list)
    lost: list[Entry] = field(default_factory=list)

    def run(self) -> Resolved:
        self.declarations = declare(self.module, self.session)
        self.copied = CopiedSettings(self.declarations, self.session)
        self._take_profiles()
        shared = Effective("file")
        for layer in (*self._named(), *self.declarations.shared, *(edit for edit in self.edits if not edit.target)):
            shared.put(layer.entries, self.session.sink)
        names = Names(
            {n: s.kind for n, s in self.declarations.stages.items()},
            View("", shared),
            self.declarations.search is not None,
        )
        names.declared = tuple(self.declarations.templates)
        self.ev = Evaluator(self.session, names, self._given())
        self.ev.variants, self.ev.best_of = self._variants, self._best_of
        self._name_dimensions()
        self._check_declared()
        for stage in self.declarations.stages:
            self._expand(stage)
        file = self._values(View("", shared), only=keys.FILE_KEYS)
        self._report_causes()
        self._check_unchosen()
        search = self.declarations.search
        return Resolved(
            self.module,
            self._recipe_name(file),
            file,
            tuple(self.order),
            {name: self._block("template", entries) for name, (_, entries) in self.declarations.templates.items()},
            self._block("search", search[1]) if search else None,
            self.ev.env_used, self.declarations.doc, search[0].header if search else None, self.ev.uses,
        )  # fmt: skip

    def _name_dimensions(self) -> None:
        """A dimension is named by where it is written; a trial gives it a value by that name."""
        own = [Layer(stage.name, stage.entries) for stage in self.declarations.stages.values()]
        swept = [layer for layers in (self.swept_profiles or (None, ()))[1] for layer in layers]
        self.ev.dimension_names = names_in([*own, *self.edits, *swept])
        if self.options.trial is not None:
            self.ev.trial, self.ev.trial_run = self.options.trial.values, self.options.trial.run

    def _report_causes(self) -> None:
        """Report the causes of poisoned names; without any, report the keys that have no value, so that none is lost silently."""
        sink = self.session.sink
        for cause in self.ev.causes:
            sink.add(cause)
        if not sink.failed:
            for entry in self.lost:
                span = entry.value.span if entry.value else entry.span
                sink.error("FT040", f"`{'.'.join(entry.path)}` cannot be evaluated", span)

    def _check_unchosen(self) -> None:
        """Check the values of profiles that are not chosen."""
        if self._file_readable and self.module.profiles:
            edits = self.profile_edits
            check = Unchosen(self.module, self.declarations, self.ev, edits, self._effective, self._value)
            check.check(self.chosen, self.session.sink)

    # --- file level

    def _named(self) -> list[Layer]:
        """The default of `name`: the stem of the file."""
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
            text = f"`{value.data}` is not a valid name of a recipe"
            self.session.sink.error("FT046", text, value.span, help="use letters, digits, `.`, `_` and `-`")
            return "recipe"
        return str(value.data)

    @cached_property
    def profile_edits(self) -> Mapping[int, list[Layer]]:
        return profile_edits(self.module, self.declarations, self.session)

    def _take_profiles(self) -> None:
        chosen: list[str] = []
        for layer in self.declarations.shared:
            for entry in layer.entries:
                if entry.path == ("profile",) and entry.value is not None:
                    chosen += self._profile_key(entry)
        names = [*chosen, *(p for p in self.options.profiles if check_profile(p, self.module, self.session))]
        self.chosen += names
        edits = self.profile_edits
        for name in names:
            self.edits += profile_layers(name, self.module, edits)
        self.edits += set_layers(self.options.sets, self.module, self.declarations, self.session)

    def _profile_key(self, entry: Entry) -> list[str]:
        """`profile = a` selects a profile; `profile in [a, b]` is an axis over profiles."""
        value, dimension = entry.value, None
        items = value.items if isinstance(value, tree.ListOf) else (value,) if value else ()
        if entry.binder is tree.Binder.SAMPLED and value is not None:
            dimension = self.profile_dimension = choice_of(value, "profile", self.session.sink)
            items = (
                tuple(argument.value for argument in value.arguments)
                if isinstance(value, tree.Call) and dimension
                else ()
            )
        names = [item.span.text.strip("\"'") for item in items]
        for name, item in zip(names, items, strict=True):
            if self.module.profile(name) is None:
                guess = closest(name, self.module.profiles)
                label = f"did you mean `{guess}`?" if guess else ""
                self.session.sink.error("FT080", f"unknown profile `{name}`", item.span, label=label)
                return []
        if isinstance(value, tree.Call) and entry.binder is tree.Binder.SAMPLED and dimension:
            return [
                (self.options.trial.values if self.options.trial else {}).get(dimension.name, dimension.representative)
            ]
        if entry.binder is not tree.Binder.SWEPT:
            return names
        layers = [profile_layers(name, self.module, self.profile_edits) for name in names]
        self.chosen += names
        self.swept_profiles = (Axis(id(entry), "profile", tuple(names)), layers)
        return []

    def _given(self) -> dict[str, tuple[tree.Expression, Scope]]:
        """`-p name=value`; for a text parameter, a bare word is a text."""
        given: dict[str, tuple[tree.Expression, Scope]] = {}
        for text in self.options.params:
            name, equals, value = text.partition("=")
            name = name.strip()
            param = self.module.params.get(name)
            if param is None or not equals:
                guess = closest(name, self.module.params)
                help = f"parameters here: {', '.join(self.module.params) or 'none'}"
                label = f"did you mean `{guess}`?" if guess else ""
                self.session.sink.error("FT044", f"unknown parameter `{name}`", None, label=label, help=help)
                continue
            given[name] = (parse_argument(text, value, param, self.session), Scope(self.module))
        return given

    def _check_declared(self) -> None:
        """Check lets and parameters, used or not."""
        sink = self.session.sink
        for module in self.module.everywhere():
            for let in module.lets.values():
                with self.ev.tracing():
                    raw = self.ev.declared_let(let, module, sink)
                if isinstance(raw, Invoke) and let.binder is not tree.Binder.SAMPLED:
                    check_call(raw, self.session)
            for param in module.params.values():
                self._check_param(param, module)

    def _check_param(self, param: tree.Param, module: Module) -> None:
        name = param.name.text
        if param.default is None and name not in self.ev.given:
            if not (param.type and param.type.optional):
                help = f"pass `-p {name}=…`"
                self.session.sink.error("FT045", f"parameter `{name}` has no value", param.name.span, help=help)
            return
        if param.type is None:
            return
        kind = param_type(param.type, self.session)
        expression, scope = self.ev.given.get(param.name.text, (param.default, Scope(module)))
        if kind and expression is not None and not (isinstance(expression, tree.Constant) and param.type.optional):
            with self.ev.tracing():
                self.ev.typed(expression, Key(name=param.name.text, type=kind, empty=True), scope, self.session.sink)

    def _block(self, kind: str, entries: Sequence[Entry]) -> dict[Path, Value]:
        effective = Effective(kind)
        effective.put(entries)
        with self.ev.tracing():
            return self._values(View(kind, effective))

    # --- stages and their variants

    def _variants(
        self, name: str, span: Span, sink: Sink
    ) -> list[tuple[str, Mapping[int, int], Mapping[int, Axis]]] | None:
        """The variants of a stage; None and a diagnostic if it is being resolved, which means a cycle."""
        if name in self.stack:
            chain = " -> ".join([*self.stack[self.stack.index(name) :], name])
            is_own = name == self.stack[-1]
            text = f"`{name}` cannot use its own result" if is_own else f"stages depend on each other: {chain}"
            sink.error("FT621", text, span)
            return None
        return [(v.run, v.assignment, v.axes) for v in self._expand(name)]

    def _best_of(self, name: str, span: Span) -> list[StageRef]:
        variants = self._variants(name, span, self.session.sink) or []
        return [StageRef(name, "", run) for run, _, _ in variants]

    def _expand(self, name: str) -> list[_Variant]:
        """All variants of a stage; it is evaluated until every axis it depends on is assigned."""
        if name in self.done:
            return self.done[name]
        declared = self.declarations.stages[name]
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
                self.session.sink.error("FT083", text, declared.block.header, help="use `~` and a `search` block")
                first_stage = variants[0].stage if variants else self._evaluate(declared, {}, "")[0]
                variants = [_Variant("", {}, {}, first_stage)]  # later stages are checked for a single run
                break
        self.stack.pop()
        self.done[name] = variants
        self.order += [v.stage for v in variants if v.stage]
        return variants

    def _close(self, declared: Declared, assignment: dict[int, int], trace: Trace, stage: ResolvedStage) -> _Variant:
        """Name the variant, and evaluate the stage again with `{run}`."""
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
        key_spans = {path: e.span for path, e in view.effective.entries.items()}
        blocks = {path: span for path, span in key_spans.items() if view.effective.entries[path].value is None}
        stage = ResolvedStage(
            declared,
            run,
            values,
            blocks,
            frozenset(view.effective.reset_paths),
            parents,
            {ref: span for ref, span in trace.refs.items() if ref.stage != declared.name},
            trace.dimensions,
            key_spans,
            view.effective.layers,
            frozenset(path for path in key_spans if path not in blocks and path not in values),
            self._file_readable and not tree.has_bad(declared.block.body),
        )
        return stage, trace

    @cached_property
    def _file_readable(self) -> bool:
        return not tree.has_bad(self.module.file.items)

    def _effective(self, declared: Declared, edits: Sequence[Layer] | None = None) -> Effective:
        """The entries of a stage. edits: instead of those of the chosen profiles and `--set`."""
        effective = Effective(declared.kind)
        for layer in self.declarations.shared:
            effective.put(layer.entries)
        effective.put(self.copied.entries_for(declared))
        effective.put(declared.entries, self.session.sink)
        for edit in (*self._profile_axis(declared), *self.edits) if edits is None else edits:
            if edit.target in ("", declared.name):
                effective.put(edit.entries)
        return effective

    def _profile_axis(self, declared: Declared) -> Sequence[Layer]:
        if self.profile_dimension is not None:
            self.ev.trace.dimensions[self.profile_dimension.name] = self.profile_dimension
        if self.swept_profiles is None:
            return ()
        axis, layers = self.swept_profiles
        self.ev.trace.axes[axis.id] = axis
        return layers[self.ev.assignment.get(axis.id, 0)]

    def _parents(self, declared: Declared) -> tuple[StageRef, ...]:
        refs: list[StageRef] = []
        for parent in declared.block.parents:
            name = parent.path[0].text
            if name == declared.name:
                self.session.sink.error("FT621", f"`{name}` cannot start from itself", parent.span)
                continue
            if name not in self.declarations.stages:
                guess = closest(name, self.declarations.stages)
                label = f"did you mean `{guess}`?" if guess else ""
                stages_help = f"stages here: {', '.join(self.declarations.stages)}"
                fix = guessed(parent.span, guess)
                text = f"unknown stage `{name}`"
                self.session.sink.error("FT620", text, parent.span, label=label, help=stages_help, fix=fix)
                continue
            if len(parent.path) > 1:
                part = ".".join(word.text for word in parent.path[1:])
                help = f"write `from {name}`"
                if part.startswith(("best", "last", "checkpoint")):
                    help += "; `save { best_by = … }` in that stage selects the checkpoint"
                text = f"the result of `{name}` has no part `{part}`"
                self.session.sink.error("FT040", text, parent.span, help=help)
                continue
            resolved = self.ev.stage(StageSymbol(name, ""), parent.span, self.session.sink)
            refs += [resolved.ref] if isinstance(resolved, Stg) else []
        return tuple(refs)

    # --- values

    def _values(self, view: View, only: Sequence[str] = ()) -> dict[Path, Value]:
        values: dict[Path, Value] = {}
        for path, entry in view.effective.entries.items():
            if entry.value is None or (only and path[0] not in only):
                continue
            key = keys.find(view.kind, path)
            if not isinstance(key, Key):
                continue
            with self.ev.tracing() as trace:
                scope = Scope(entry.module, view if view.name else None, path[:-1], path)
                data = self._value(entry, key, scope, self.session.sink)
            if data is WRONG:
                trace.refs = {}  # a wrong value adds no dependency
            self.ev.trace.absorb(trace)
            if data is not WRONG:
                values[path] = Value(data, entry.value.span, entry.origin)
            elif not isinstance(entry.value, tree.Missing):
                self.lost.append(entry)
        return values

    def _sampled(self, entry: Entry, key: Key, scope: Scope, sink: Sink) -> Any:
        """What the trial gives a key. Without a trial all that it may be given is held against the key."""
        assert entry.value is not None
        name = ".".join(entry.path)
        dimension = self.ev.dimension(entry.value, name, entry, scope, sink)
        before = len(sink)
        if dimension is not None and self.options.trial is None:
            for value in candidates(dimension, entry.value, sink):
                if isinstance(value, tree.Expression):
                    self.ev.typed(value, key, scope, sink)
                else:
                    coerce(self.ev, value, parse_type(key.type), key, sink)
        return None if len(sink) > before else self.ev.sampled(entry.value, name, entry, scope, sink)

    def _value(self, entry: Entry, key: Key, scope: Scope, sink: Sink) -> Any:
        assert entry.value is not None
        chosen: Any = entry.value
        if entry.binder is tree.Binder.SWEPT:
            chosen = self.ev.swept(entry.value, entry.path[-1], id(entry), scope, sink)
        elif entry.binder is tree.Binder.SAMPLED:
            chosen = self._sampled(entry, key, scope, sink)
        if chosen is None or isinstance(chosen, Broken | tree.Missing):
            return WRONG
        if isinstance(chosen, tree.Expression):
            return self.ev.typed(chosen, key, scope, sink)
        return coerce(self.ev, chosen, parse_type(key.type), key, sink)
