"""Merges of several whole models: `method` of a `merge` stage, by mergekit in an environment of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ftdsl.engines.jobs import Command, Document, Job
from ftdsl.engines.shared import assemble
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.engines.shared.trainer.start import lineage_of
from ftdsl.engines.tools.tool import MERGEKIT
from ftdsl.engines.tools.written_model import hub_options, merged
from ftdsl.estimate.architecture import Architecture, NotModelledError
from ftdsl.language.values import StageRef, Term
from ftdsl.plan.layout import architecture_of
from ftdsl.recipe.recipe import ModelRef
from ftdsl.record import replace

PROGRAM = "runtime/merge_models.py"
MODULES = ("__init__", "checkpoints", "events", "merge_models", "proof", "report", "shipping")
NEEDS_BASE = ("ties", "dare", "task_arithmetic", "model_stock")
OF_ADAPTERS = ("cat", "svd")


def wants(context: StageContext) -> bool:
    """Whether the stage merges whole models."""
    return context.stage.kind == "merge" and context.get("method") is not None


def job(context: StageContext) -> Job:
    models = list(_models(context))
    _check(context, models)
    document = Document(f"{context.folder}/merge.json", "json", _spec(context, models), bookkeeping=("card",))
    command = Command((MERGEKIT.python, PROGRAM, document.path), comment="mergekit, in its own environment")
    title = f"{context.name('method')} of {len(models)} models"
    return assemble.job_of(
        context, [document], [command], [], "model", title, runtime=MODULES, environment=MERGEKIT.name
    )


def _models(context: StageContext) -> Iterator[ModelRef]:
    """The models, those in `from` first."""
    for key in context.stage.parents:
        stage = context.plan.stage(key).stage
        yield stage.result.base if stage.result else StageRef(stage.name, "", stage.run)
    for item in context.stage.settings.items("models"):
        yield lineage_of(context, item).base


def _spec(context: StageContext, models: Sequence[ModelRef]) -> dict[str, Any]:
    """What runtime/merge_models.py reads."""
    method, weights, densities = context.name("method"), context.get("weights"), context.get("densities")
    rows: list[dict[str, Any]] = []
    for at, model in enumerate(models):
        row = {"model": _path(context, model), **hub_options(model)}
        if weights and at < len(weights):
            row["weight"] = weights[at]
        if densities and at < len(densities):
            row["density"] = float(getattr(densities[at], "number", densities[at]))
        rows.append(row)
    spec: dict[str, Any] = {"stage": context.folder, "method": method, "models": rows}
    term = context.get("method")
    for name, value in (term.options if isinstance(term, Term) else {}).items():
        spec[name] = float(getattr(value, "number", value)) if name != "signs" and name != "normalize" else bool(value)
    base = context.get("base")
    if base is not None:
        where = lineage_of(context, base).base
        spec["base"] = {"model": _path(context, where), **hub_options(where)}
    made = f"{method} of {', '.join(_name(model) for model in models)}, by mergekit."
    return spec | merged(context, made, "merge")


def _path(context: StageContext, model: ModelRef) -> str:
    """Where a model lies. One that another job of its own makes can only be the one that the stage starts from."""
    first = context.stage.start.base if context.stage.start else None
    if isinstance(model, Term) and model.name in ("scratch", "best") and model != first:
        help = "make it the first model, or read it in a stage of its own"
        context.refuse("models", f"`{model.name}(…)` can be only the first of the models", help)
        return model.name
    return context.paths.model(model)


def _name(model: ModelRef) -> str:
    if isinstance(model, StageRef):
        return model.stage
    return str(model.options.get("id") or model.options.get("path") or model.name)


def _check(context: StageContext, models: Sequence[ModelRef]) -> None:
    """What cannot be merged, before anything starts."""
    method = context.name("method")
    if method in OF_ADAPTERS:
        context.refuse("method", f"`{method}` merges adapters, and these are whole models", "write `method = linear`")
    if method == "slerp" and len(models) != 2:
        context.refuse(
            "method", f"`slerp` is between two models, and these are {len(models)}", "write `method = linear`"
        )
    elif len(models) < 2 and method != "task_arithmetic":
        context.refuse("method", f"`{method}` needs two models or more", "name them in `from`, or in `models`")
    if method in NEEDS_BASE and context.get("base") is None:
        help = 'write `base = hf("…")`: the model that the others were trained from'
        context.refuse("method", f"`{method}` adds up what models have learned beyond their base, and needs it", help)
    if method not in NEEDS_BASE and context.get("base") is not None:
        context.refuse("base", f"`{method}` has no base", "drop it, or add it to `models`")
    for key in ("weights", "densities"):
        values = context.get(key)
        if values is not None and len(values) != len(models):
            context.refuse(key, f"there are {len(values)} `{key}`, and {len(models)} models", "write one for each")
    if context.get("densities") is not None and method not in ("ties", "dare"):
        context.refuse("densities", f"`{method}` takes all that was learned", "write `method = ties`, or drop it")
    if context.get("weights") is not None and method in ("slerp", "model_stock"):
        help = "write `slerp(t = 30%)`" if method == "slerp" else "drop it"
        context.refuse("weights", f"`{method}` works out its own weights", help)
    if context.get("legacy"):
        context.refuse("legacy", "mergekit writes safetensors", "drop it")
    _check_weights(context)
    _check_parents(context, models)
    _check_shapes(context, models)


def _check_weights(context: StageContext) -> None:
    """Weights that leave nothing of the models, or divide by nothing."""
    weights, method = context.get("weights"), context.name("method")
    if not weights or any(not isinstance(weight, int | float) for weight in weights):
        return
    normalised = method == "linear" and context.option("method", "normalize") is not False
    if not any(weights) or (normalised and abs(sum(weights)) < 1e-9):
        help = "write weights whose sum is not 0" + (", or `linear(normalize = false)`" if any(weights) else "")
        context.refuse("weights", f"the weights of `{method}` add up to 0, and nothing is left of the models", help)
    elif method == "linear" and not normalised and abs(sum(weights) - 1) > 0.01:
        text = f"the weights add up to {sum(weights):g}, and all weights of the model are multiplied by that"
        context.warn("weights", text, "write weights that add up to 1, or drop `normalize = false`")


def _check_parents(context: StageContext, models: Sequence[ModelRef]) -> None:
    """Models that cannot be added up, as far as the recipe makes them itself."""
    base = context.get("base")
    key = "models" if context.is_explicit("models") else "method"
    for at, model in enumerate(models):
        if model in models[:at]:
            help = "name each model once, and write `weights`"
            context.warn(key, f"`{_name(model)}` is named twice: mergekit takes it once, with its last weight", help)
    for model in [*models, *([lineage_of(context, base).base] if base is not None else [])]:
        kind = context.plan.stage(model.key).stage.kind if isinstance(model, StageRef) else ""
        if kind == "quantize":
            help = "merge first, and quantise what comes out"
            context.refuse(key, f"`{_name(model)}` is quantised, and only weights in full can be added up", help)
    kinds = {isinstance(model, StageRef) and context.plan.stage(model.key).stage.kind == "reward" for model in models}
    if len(kinds) > 1:
        context.refuse(key, "a reward model has a head, which the other models have not", "merge models of one kind")


def _check_shapes(context: StageContext, models: Sequence[ModelRef]) -> None:
    """Models whose sizes are known and differ."""
    base = context.get("base")
    named = [*models, *([lineage_of(context, base).base] if base is not None else [])]
    first: tuple[str, Architecture] | None = None
    for model in named:
        start = lineage_of(context, model)
        try:
            architecture = architecture_of(
                replace(context.stage, start=start), context.plan.recipe, context.session.files
            )
        except NotModelledError:
            continue
        if first is None:
            first = (_name(model), architecture)
            continue
        for what in ("hidden", "layers", "vocab", "ffn", "heads", "kv_heads", "experts", "family"):
            size, other_size = getattr(first[1], what), getattr(architecture, what)
            if size != other_size:
                text = f"`{first[0]}` and `{_name(model)}` cannot be merged: {what} is {size} and {other_size}"
                span = context.stage.spans.get("models") or context.stage.spans.get("method", context.stage.span)
                help = "merge models that were trained from one base"
                context.session.sink.error("FT972", text, span, help=help)
                return
