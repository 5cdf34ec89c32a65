"""Values to the typed recipe: pydantic models per stage, lineage, and the checks that need no engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from ftdsl.diagnostics import Label, Sink
from ftdsl.language.resolve.resolve import Resolved, ResolvedStage
from ftdsl.language.resolve.words import Path
from ftdsl.language.values import Origin, StageRef, Term, Value
from ftdsl.recipe import rules
from ftdsl.recipe.lineage import Linked, Linker
from ftdsl.recipe.models import BLOCKS, STAGES
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.recipe.validate import problems
from ftdsl.session import Session
from ftdsl.source import Span

DEFAULT_ENGINE = Term("llamafactory")
DEFAULT_SEED = 42


def build(resolved: Resolved, folder: FilePath, session: Session) -> Recipe:
    """The recipe as far as it could be understood; what is wrong is in the session's sink."""
    linker = Linker(session.sink)
    linked = [linker.link(stage) for stage in resolved.stages]
    stages = tuple(stage for one in linked if (stage := _stage(one, session.sink)))
    span = Span(resolved.module.file.source, 0, 0)
    engine, seed = resolved.file.get(("engine",)), resolved.file.get(("seed",))
    recipe = Recipe(
        resolved.name,
        engine.data if engine else DEFAULT_ENGINE,
        seed.data if seed else DEFAULT_SEED,
        folder,
        span,
        stages,
        {name: _block("template", values) for name, values in resolved.templates.items()},
        _block("search", resolved.search) if resolved.search is not None else None,
        resolved.doc,
    )
    _check_destinations(resolved, session.sink)
    rules.check(recipe, session)
    return recipe


def _stage(linked: Linked, sink: Sink) -> Stage | None:
    stage = linked.stage
    span = stage.declared.block.header
    settings, wrong = problems(STAGES[stage.declared.kind], nested(linked.values, stage.blocks))
    for key, message in wrong:
        value = linked.values.get(tuple(key.split(".")))
        place = value.span if value else _block_span(stage, key)
        sink.error("FT011" if "missing" in message else "FT003", message, place)
    if settings is None:
        return None
    return Stage(
        key=stage.key,
        name=stage.name,
        run=stage.run,
        kind=stage.declared.kind,
        settings=settings,
        origins=_origins(linked.values),
        spans=_spans(linked),
        span=span,
        parents=tuple(f"{r.stage}@{r.run}" if r.run else r.stage for r in stage.parents),
        needs=linked.needs,
        start=linked.start,
        new_adapter=linked.new_adapter,
        result=linked.result,
        doc=stage.declared.block.doc,
    )


def _origins(values: Mapping[Path, Value]) -> dict[str, Origin]:
    return {".".join(path): value.origin for path, value in values.items()}


def _spans(linked: Linked) -> dict[str, Span]:
    blocks = {".".join(path): span for path, span in linked.stage.blocks.items()}
    return blocks | {".".join(path): value.span for path, value in linked.values.items() if value.span}


def _block_span(stage: ResolvedStage, key: str) -> Span:
    block = tuple(key.split(".")[:-1])
    return stage.blocks.get(block, stage.declared.block.header)


def nested(values: Mapping[Path, Value], blocks: Mapping[Path, Span]) -> dict[str, Any]:
    """`{("optim", "lr"): 1e-4}` -> `{"optim": {"lr": 1e-4}}`; a block that is there but empty becomes `{}`."""
    tree: dict[str, Any] = {}
    for path in blocks:
        _at(tree, path)
    for path, value in values.items():
        _at(tree, path[:-1])[path[-1]] = value.data
    return tree


def _at(tree: dict[str, Any], path: Path) -> dict[str, Any]:
    for word in path:
        inner = tree.setdefault(word, {})
        if not isinstance(inner, dict):
            return {}
        tree = inner
    return tree


def _block(kind: str, values: Mapping[Path, Value]) -> Any:
    instance, _ = problems(BLOCKS[kind], nested(values, {}))
    return instance


def _check_destinations(resolved: Resolved, sink: Sink) -> None:
    """Two runs that put their results in one place would overwrite each other."""
    seen: dict[str, tuple[ResolvedStage, Value]] = {}
    for stage in resolved.stages:
        value = stage.values.get(("to",))
        if value is None or isinstance(value.data, StageRef):
            continue
        place = str(FilePath(str(value.data)))
        other = seen.setdefault(place, (stage, value))
        if other[0] is stage:
            continue
        if other[0].name == stage.name:
            text = f"every run of `{stage.name}` would be put in `{value.data}`"
            sink.error("FT082", text, value.span, help='write `{run}` into it: `to = "out/{run}"`')
        else:
            labels = (Label(other[1].span, "also here"),) if other[1].span else ()
            sink.error(
                "FT082", f"`{stage.name}` and `{other[0].name}` would be put in one place", value.span, labels=labels
            )
