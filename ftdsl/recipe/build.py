"""Builds the typed recipe from values: settings per stage, lineage, and the checks that need no engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from ftdsl.catalog.vocabulary import vocabulary
from ftdsl.diagnostics import Label, Sink
from ftdsl.environments import resolve_versions
from ftdsl.language.resolve.keys import Path
from ftdsl.language.resolve.layers import Entry
from ftdsl.language.resolve.resolve import Resolved, ResolvedStage
from ftdsl.language.values import Secret, StageRef, Term, Value
from ftdsl.recipe import rules
from ftdsl.recipe.lineage import Linked, Linker
from ftdsl.recipe.literal_secrets import without_secrets
from ftdsl.recipe.needed_engine import with_engines
from ftdsl.recipe.recipe import EngineChoice, Recipe, Stage
from ftdsl.recipe.settings import Settings
from ftdsl.session import Session
from ftdsl.source import Span

DEFAULT_SEED = 42


def build(resolved: Resolved, folder: FilePath, session: Session) -> Recipe:
    """The recipe, as far as it is valid; errors go to the session's sink."""
    linker = Linker(session.sink)
    stages = tuple(_stage(linker.link(stage), session.sink) for stage in resolved.stages)
    engine, seed = resolved.file.get(("engine",)), resolved.file.get(("seed",))
    target = resolved.file.get(("target",))
    stages = with_engines(stages, named=engine is not None)
    term = engine.data if engine else Term(vocabulary().block("file").keys["engine"].auto)
    recipe = Recipe(
        resolved.name,
        term,
        _engines(term, stages, folder, session),
        seed.data if seed else DEFAULT_SEED,
        folder,
        Span(resolved.module.file.source, 0, 0),
        stages,
        {name: Settings("template", _dotted(values)) for name, values in resolved.templates.items()},
        Settings("search", _dotted(resolved.search)) if resolved.search is not None else None,
        {path[1]: value.data for path, value in resolved.file.items() if len(path) == 2 and path[0] == "budget"},
        resolved.doc,
        budget_spans={
            path[1]: value.span for path, value in resolved.file.items() if path[0] == "budget" and value.span
        },
        search_spans={".".join(path): value.span for path, value in (resolved.search or {}).items() if value.span}
        | ({"": resolved.search_span} if resolved.search_span else {}),
        target=target.data if target and isinstance(target.data, Term) else None,
    )
    _check_destinations(resolved, session.sink)
    rules.check(recipe, session)
    return recipe


def _engines(file: Term, stages: tuple[Stage, ...], folder: FilePath, session: Session) -> dict[str, EngineChoice]:
    """The engines of the file and of its stages. A recipe uses one version of an engine, as there is one environment for each."""
    engines: dict[str, EngineChoice] = {}
    stage_engines = [(stage, term) for stage in stages if isinstance(term := stage.settings.get("engine"), Term)]
    for stage, term in [(None, file), *stage_engines]:
        earlier = engines.get(term.name)
        if earlier is None:
            version = str(term.options.get("version") or "")
            versions = resolve_versions(term.name, session, version=version, python=python_of(term, folder))
            engines[term.name] = EngineChoice(term, versions)
        elif stage is not None and term.options and term.options != earlier.term.options:
            text = f"`{term.name}` has other options elsewhere in the recipe"
            help = "set version and Python once: `engine = …` at the top of the file"
            session.sink.error("FT006", text, stage.spans.get("engine", stage.span), help=help)
    return engines


def python_of(engine: Term, folder: FilePath) -> str:
    """The Python that an engine names, relative to the recipe's folder; "" if none."""
    named = engine.options.get("python")
    return str(folder / str(named)) if named else ""


def _stage(linked: Linked, sink: Sink) -> Stage:
    stage, values = linked.stage, without_secrets(linked.values, sink)
    blocks = {".".join(path): span for path, span in stage.blocks.items()}
    return Stage(
        key=stage.key,
        name=stage.name,
        run=stage.run,
        kind=stage.declared.kind,
        settings=Settings(stage.declared.kind, _dotted(values), frozenset(blocks)),
        origins={".".join(path): value.origin for path, value in values.items()},
        spans=blocks | {".".join(path): value.span for path, value in values.items() if value.span},
        keys={".".join(path): span for path, span in stage.keys.items()},
        layers=[(".".join(e.path), _written_value(e, values), e.origin) for e in stage.layers if e.value is not None],
        span=stage.declared.block.header,
        parents=tuple(ref.key for ref in stage.parents),
        needs=linked.needs,
        start=linked.start,
        new_adapter=linked.new_adapter,
        result=linked.result,
        doc=stage.declared.block.doc,
        unknown=frozenset(".".join(path) for path in stage.unknown),
        sound=stage.readable and linked.sound,
        dimensions=stage.dimensions,
    )


def _written_value(entry: Entry, values: Mapping[Path, Value]) -> str:
    """The source text of a value; for a secret the reference."""
    value = values.get(entry.path)
    if value is not None and isinstance(value.data, Secret):
        return f'secret("{value.data.variable}")'
    return entry.value.span.text if entry.value is not None else ""


def _dotted(values: Mapping[Path, Value]) -> dict[str, Any]:
    return {".".join(path): value.data for path, value in values.items()}


def _check_destinations(resolved: Resolved, sink: Sink) -> None:
    """Report runs with the same destination, which would overwrite each other."""
    seen: dict[str, tuple[ResolvedStage, Value]] = {}
    for stage in resolved.stages:
        value = stage.values.get(("to",))
        if value is None or isinstance(value.data, StageRef):
            continue
        path = str(FilePath(str(value.data)))
        first = seen.setdefault(path, (stage, value))
        if first[0] is stage:
            continue
        if first[0].name == stage.name:
            text = f"every run of `{stage.name}` would be written to `{value.data}`"
            sink.error("FT082", text, value.span, help='use `{run}`: `to = "out/{run}"`')
        else:
            labels = (Label(first[1].span, "also here"),) if first[1].span else ()
            text = f"`{stage.name}` and `{first[0].name}` would be written to the same folder"
            sink.error("FT082", text, value.span, labels=labels)
