"""Lowered parameters as the lint rules see them: each with the recipe's key that it came from, and the key's span.

The overlay, read backwards, leads from a parameter to its key: of the keys that may write the parameter, the first that the
author set. A parameter that no key wrote has no span of its own; diagnostics about it point to the stage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ftdsl.catalog.trainers import trainer_of_kind, trainers
from ftdsl.diagnostics import Severity
from ftdsl.engines.jobs import Document
from ftdsl.engines.shared import existing_entries, overlay
from ftdsl.engines.shared.parallel.accelerate import NAME as ACCELERATE
from ftdsl.engines.shared.parallel.common import distributed, launcher
from ftdsl.engines.shared.parallel.deepspeed import NAME as DEEPSPEED
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import StageRef, Term
from ftdsl.lint import config as view
from ftdsl.lint import facts
from ftdsl.lint.check import check
from ftdsl.lint.config import Config, Setting
from ftdsl.recipe.recipe import Lineage, ModelRef
from ftdsl.recipe.settings import METHODS
from ftdsl.recipe.shape import local_path
from ftdsl.source import Span

_OF_THE_METHOD = ("finetuning_type", "create_new_adapter")
"""Parameters that a method block sets."""


def lint(context: StageContext, documents: list[Document]) -> None:
    """Run the rules over every configuration of a job. A smoke run is not what the author wrote, so it is not checked."""
    if context.plan.recipe.smoke or not context.engine.linted:
        return
    if trainers(context.engine.name) and not trainer_of_kind(context.engine.name, context.stage.kind):
        return  # a merge or an evaluation: no trainer's parameters
    beside = {name: _beside(context, documents, name, block)
              for name, block in ((DEEPSPEED, "deepspeed"), (ACCELERATE, "accelerate"))}  # fmt: skip
    for document in documents:
        if document.kind == "yaml" and not document.path.endswith(f"/{ACCELERATE}"):
            check(config_of(context, document.data, beside), context.session.sink)


def _beside(context: StageContext, documents: list[Document], name: str, block: str) -> view.Document | None:
    """A file that the lowering put beside the parameters. `settings` are the author's own keys (`deepspeed { }`), which are held
    to some rules for files: a key that is passed through may contradict the rest. Not those with an error already: a mistake is
    reported once."""
    document = next((document for document in documents if document.path.endswith(f"/{name}")), None)
    if document is None:
        return None
    stage = context.stage
    given = {
        path: Setting(
            path, value, f"{block}.{path}", stage.spans.get(f"{block}.{path}"), stage.keys.get(f"{block}.{path}")
        )
        for path, value in stage.settings.inside(block).items()
    }
    errors = {error.span for error in context.session.sink if error.severity is Severity.ERROR and error.span}
    kept = {
        path: setting for path, setting in given.items() if setting.span not in errors and setting.key not in errors
    }
    span = stage.spans.get("parallel.strategy") or stage.spans.get("parallel") or stage.span
    return view.Document(name, document.data, kept, span, ours=True)


def config_of(context: StageContext, params: Mapping[str, Any], beside: Mapping[str, view.Document | None]) -> Config:
    """One configuration of a planned stage."""
    world, start, adapters = context.planned.world, context.stage.start, _adapters(context)
    model = bottom(context)
    hardware_known = not any(name.startswith("hardware.") for name in context.stage.unknown)
    span = context.stage.span
    return Config(
        settings={name: _setting(context, name, value) for name, value in params.items()},
        span=span,
        title=context.stage.key,
        kind="export" if "export_dir" in params else "train",
        form="recipe",
        engine=context.engine.name,
        trainer=trainer_of_kind(context.engine.name, context.stage.kind),
        deepspeed=beside[DEEPSPEED],
        accelerate=beside[ACCELERATE],
        launch=view.Launch(
            world.nodes, world.processes_per_node, launcher(context) if distributed(context) else "python"
        )
        if hardware_known
        else None,
        gpu=world.gpu if hardware_known else None,
        versions=_versions(context),
        ancestry=_ancestry(start),
        unknown=frozenset(_unknown(context)),
        installed=context.versions.installed,
        adapter_bases=facts.adapter_bases(adapters, context.session.files),
        adapters_below=facts.adapters_below(adapters, context.session.files),
        adapters_of_parameters=facts.adapters_of_parameters(adapters, context.session.files),
        reward_form=_reward_form(context),
        datasets=_datasets(context, params),
        architecture=facts.architecture(*model, context.session.files),
        layers=facts.layers(*model, context.session.files),
        window=facts.window(*model, context.session.files),
    )


def _datasets(context: StageContext, params: Mapping[str, Any]) -> tuple[view.Dataset, ...]:
    """The entries of an existing dataset_info.json that a training stage reads; none where all data is elsewhere."""
    if context.session.elsewhere or not params.get("do_train"):
        return ()
    folder, stage = context.plan.recipe.folder, str(params.get("stage") or "sft")
    return tuple(existing_entries.named_by(context.stage, folder, context.session.files, stage))


def _adapters(context: StageContext) -> list[tuple[str, Path]]:
    """Adapters in local folders: (the path in the parameters, the folder)."""
    start = context.stage.start
    return [
        (context.paths.adapter(adapter), folder)
        for adapter in (start.adapters if start else ())
        if (folder := _folder(context, adapter))
    ]


def _reward_form(context: StageContext) -> str:
    """What the reward model of a `ppo` stage is, where it is a local folder."""
    value = context.get("reward")
    folder = _folder(context, value) if isinstance(value, Term) and value.name in ("file", "adapter") else None
    return facts.reward_form(folder, context.session.files) if folder else ""


def bottom(context: StageContext) -> tuple[str, Path | None]:
    """The base model that the stage's lineage begins with: its name, and its folder if it is local."""
    base = context.plan.origin(context.stage)
    if not isinstance(base, Term):
        return "", None
    like = base.options.get("like")
    name = like.options.get("id") if isinstance(like, Term) else like or base.options.get("id") or ""
    return str(name), _folder(context, base)


def _folder(context: StageContext, where: ModelRef) -> Path | None:
    """The folder of a `file(…)`; None for stages and hubs."""
    inner = where.options.get("where", where) if isinstance(where, Term) else where
    return local_path(inner, context.plan.recipe.folder)


def _unknown(context: StageContext) -> Iterator[str]:
    """Parameters whose value is unknown because their key has an error: those the key writes, and those derived from it."""
    unknown = context.stage.unknown
    written = written_by(context.engine.name, context.stage.kind)
    yield from (name for name, keys in written.items() if any(key in unknown for key, _ in keys))
    if any(name.startswith("batch.") for name in unknown):
        yield from ("per_device_train_batch_size", "gradient_accumulation_steps")
    if "data" in unknown:
        yield from ("eval_dataset", "val_size")
    errors = {error.span for error in context.session.sink if error.severity is Severity.ERROR and error.span}
    engine = context.engine.name
    for name in context.stage.settings.inside(engine):  # refused in the passthrough block, which was reported
        if context.stage.keys.get(f"{engine}.{name}") in errors:
            yield name
    if sum(name in METHODS for name in context.stage.spans) > 1:
        yield "finetuning_type"


def _versions(context: StageContext) -> dict[str, str]:
    """Versions in force. DeepSpeed's only if it is installed or pinned: nothing enforces the bound in the engine's metadata."""
    return {
        name: version.version
        for name, version in context.versions.packages.items()
        if name != "deepspeed" or not version.source.startswith("the newest")
    }


def _ancestry(start: Lineage | None) -> view.Ancestry | None:
    if start is None:
        return None
    base = start.base
    if isinstance(base, StageRef):
        return view.Ancestry(base.stage, len(start.adapters))
    source = base.options.get("id") or base.options.get("path") or base.name
    return view.Ancestry(str(source), len(start.adapters), base.name == "scratch")


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
        inherited = origin.kind == "from"  # an edit there would change the stage it comes from as well
        span = stage.spans.get(key, stage.span)
        edit = None if inherited else stage.keys.get(key)
        option, option_span = _option(word, span)
        return Setting(name, value, word, option_span or span, (option or edit) if edit else None)
    names = (word for _, word in written_by(context.engine.name, stage.kind).get(name, ()))
    return Setting(name, value, next(names, name), is_explicit=False)


def _option(word: str, call: Span) -> tuple[Span | None, Span | None]:
    """Spans of the name and the value of a named option in a call (`rank` of `galore(rank = 8)`)."""
    member, _, option = word.partition("(")
    if not option or not call.text.startswith(f"{member}("):
        return None, None
    match = re.search(rf"\b({option[:-1]})\s*=\s*([^\s,()\[\]][^,()\[\]\n]*?)\s*[,)\n]", call.text)
    if match is None:
        return None, None
    name, value = (Span(call.source, call.start + match.start(at), call.start + match.end(at)) for at in (1, 2))
    return name, value


@cache
def written_by(engine: str, kind: str) -> Mapping[str, list[tuple[str, str]]]:
    """Parameter -> the keys that may write it: (dotted key, name in messages: `optim.lr`, `galore(rank)`)."""
    writers: dict[str, list[tuple[str, str]]] = {}
    for key, entry in overlay.entries(engine, kind):
        for parameter, name in _written(key, entry):
            writers.setdefault(parameter, []).append((key, name))
    return writers


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
