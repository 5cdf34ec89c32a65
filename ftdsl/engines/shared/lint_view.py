"""Lowered parameters as rules see them: each with the word of the recipe it came from, and that word's place.

The way back from parameter to word is the overlay read backwards: of the words that may write a parameter, the first that
the recipe says. What no word wrote has no place of its own, and messages about it go to the stage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ftdsl import catalog
from ftdsl.engines.jobs import Document
from ftdsl.engines.shared import overlay
from ftdsl.engines.shared.parallel.accelerate import NAME as ACCELERATE
from ftdsl.engines.shared.parallel.common import distributed, launcher
from ftdsl.engines.shared.parallel.deepspeed import NAME as DEEPSPEED
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import StageRef, Term
from ftdsl.lint import config as view
from ftdsl.lint import facts
from ftdsl.lint.check import check
from ftdsl.lint.config import Config, Setting
from ftdsl.recipe.recipe import Lineage, Where
from ftdsl.recipe.settings import METHODS
from ftdsl.recipe.shape import local_path
from ftdsl.source import Span

_OF_THE_METHOD = ("finetuning_type", "create_new_adapter")
"""Parameters that a method block decides."""


def lint(context: StageContext, documents: list[Document]) -> None:
    """Run the rules over every configuration of a job. A smoke run is not what the author wrote, and is left alone."""
    if context.plan.recipe.smoke or not catalog.versions(context.engine.name):
        return
    beside = {name: _beside(context, documents, name) for name in (DEEPSPEED, ACCELERATE)}
    for document in documents:
        if document.kind == "yaml" and not document.path.endswith(f"/{ACCELERATE}"):
            check(config_of(context, document.data, beside), context.session.sink)


def _beside(context: StageContext, documents: list[Document], name: str) -> view.Document | None:
    """A file that the lowering put beside the parameters."""
    found = next((document for document in documents if document.path.endswith(f"/{name}")), None)
    return view.Document(name, found.data, span=context.stage.span, ours=True) if found else None


def config_of(context: StageContext, params: Mapping[str, Any], beside: Mapping[str, view.Document | None]) -> Config:
    """One configuration of a planned stage."""
    world, start, adapters = context.planned.world, context.stage.start, _adapters(context)
    model = bottom(context)
    seen = not any(name.startswith("hardware.") for name in context.stage.unknown)
    place = context.stage.span
    return Config(
        settings={name: _setting(context, name, value) for name, value in params.items()},
        span=place,
        title=context.stage.key,
        kind="export" if "export_dir" in params else "train",
        form="recipe",
        engine=context.engine.name,
        deepspeed=beside[DEEPSPEED],
        accelerate=beside[ACCELERATE],
        launch=view.Launch(
            world.nodes, world.processes_per_node, launcher(context) if distributed(context) else "python"
        )
        if seen
        else None,
        gpu=world.gpu if seen else None,
        versions=_versions(context),
        ancestry=_ancestry(start),
        unknown=frozenset(_unknown(context)),
        installed=context.versions.installed,
        adapter_bases=facts.adapter_bases(adapters, context.session.files),
        adapters_below=facts.adapters_below(adapters, context.session.files),
        architecture=facts.architecture(*model, context.session.files),
        layers=facts.layers(*model, context.session.files),
    )


def _adapters(context: StageContext) -> list[tuple[str, Path]]:
    """Adapters that lie in files: the place the parameters name, and the folder."""
    start = context.stage.start
    return [
        (context.paths.adapter(one), folder)
        for one in (start.adapters if start else ())
        if (folder := _folder(context, one))
    ]


def bottom(context: StageContext) -> tuple[str, Path | None]:
    """The model at the bottom, through the stages before: its name, and the folder it lies in."""
    base = context.plan.origin(context.stage)
    if not isinstance(base, Term):
        return "", None
    like = base.options.get("like")
    said = like.options.get("id") if isinstance(like, Term) else like or base.options.get("id") or ""
    return str(said), _folder(context, base)


def _folder(context: StageContext, where: Where) -> Path | None:
    """The folder of a `file(…)` here; None for stages and hubs."""
    inner = where.options.get("where", where) if isinstance(where, Term) else where
    return local_path(inner, context.plan.recipe.folder)


def _unknown(context: StageContext) -> Iterator[str]:
    """Parameters that an error in the recipe has taken: those its key writes, and those worked out from it."""
    unknown = context.stage.unknown
    written = written_by(context.engine.name, context.stage.kind)
    yield from (name for name, keys in written.items() if any(key in unknown for key, _ in keys))
    if any(name.startswith("batch.") for name in unknown):
        yield from ("per_device_train_batch_size", "gradient_accumulation_steps")
    if "data" in unknown:
        yield from ("eval_dataset", "val_size")
    if sum(name in METHODS for name in context.stage.spans) > 1:
        yield "finetuning_type"


def _versions(context: StageContext) -> dict[str, str]:
    """Versions that count. Of DeepSpeed only one that is there: the bound in an engine's metadata is held by nobody."""
    return {
        name: one.version
        for name, one in context.versions.packages.items()
        if name != "deepspeed" or not one.source.startswith("the newest")
    }


def _ancestry(start: Lineage | None) -> view.Ancestry | None:
    if start is None:
        return None
    base = start.base
    if isinstance(base, StageRef):
        return view.Ancestry(base.stage, len(start.adapters))
    place = base.options.get("id") or base.options.get("path") or base.name
    return view.Ancestry(str(place), len(start.adapters), base.name == "scratch")


def _setting(context: StageContext, name: str, value: Any) -> Setting:
    stage = context.stage
    if (own := f"{context.engine.name}.{name}") in stage.origins:
        return Setting(name, value, name, stage.spans.get(own), stage.keys.get(own))
    if name in _OF_THE_METHOD and (method := context.planned.method) in stage.spans:
        return Setting(name, value, method, stage.spans[method])
    if name == "stage":
        return Setting(name, value, stage.kind, stage.span)
    for key, word in written_by(context.engine.name, stage.kind).get(name, ()):
        origin = stage.origins.get(key)
        if origin is None or origin.kind in ("auto", "default"):
            continue
        handed = origin.kind == "from"  # an edit there would change the stage it comes from as well
        span = stage.spans.get(key, stage.span)
        place = None if handed else stage.keys.get(key)
        option, given = _option(word, span)
        return Setting(name, value, word, given or span, (option or place) if place else None)
    words = (word for _, word in written_by(context.engine.name, stage.kind).get(name, ()))
    return Setting(name, value, next(words, name), is_explicit=False)


def _option(word: str, call: Span) -> tuple[Span | None, Span | None]:
    """Where an option of a member (`galore(rank)`) is given by name in the call: its name and its value."""
    member, _, option = word.partition("(")
    if not option or not call.text.startswith(f"{member}("):
        return None, None
    found = re.search(rf"\b({option[:-1]})\s*=\s*([^\s,()\[\]][^,()\[\]\n]*?)\s*[,)\n]", call.text)
    if found is None:
        return None, None
    name, value = (Span(call.source, call.start + found.start(at), call.start + found.end(at)) for at in (1, 2))
    return name, value


@cache
def written_by(engine: str, kind: str) -> Mapping[str, list[tuple[str, str]]]:
    """Parameter -> the words that may write it: dotted key, and what a person calls it (`optim.lr`, `galore(rank)`)."""
    found: dict[str, list[tuple[str, str]]] = {}
    for key, entry in overlay.entries(engine, kind):
        for parameter, word in _written(key, entry):
            found.setdefault(parameter, []).append((key, word))
    return found


def _written(key: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for member, options in entry.get("opts", {}).items():
        for option, parameter in options.items():
            yield parameter, f"{member}({option})"
    for to in entry["to"]:
        parameter = to.partition(":")[0]
        if "." not in parameter and parameter != "own":
            yield parameter, key
    for texts in entry.get("set", {}).values():
        for text in texts:
            yield text.partition("=")[0], key
