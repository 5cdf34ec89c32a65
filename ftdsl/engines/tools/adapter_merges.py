"""Merges of several adapters of one base: `method` of a `merge` stage whose parents are adapters, by PEFT in the engine's own
environment. The adapters become one, which is merged into the base.
"""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Command, Document, Job
from ftdsl.engines.shared import assemble
from ftdsl.engines.shared.merging import merges_reward_model, refuse_quantised
from ftdsl.engines.shared.parallel import PYTHON
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.engines.tools.written_model import hub_options, merged
from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.recipe import ModelRef

PROGRAM = "runtime/merge_adapters.py"
MODULES = ("__init__", "checkpoints", "events", "merge_adapters", "proof", "report", "shipping")
METHODS = ("cat", "svd", "linear", "ties", "dare")
OF_FACTORS = ("linear", "ties", "dare")
"""Methods that work on the two factors of an adapter, so that all adapters must have one rank."""


def wants(context: StageContext) -> bool:
    """Whether the stage merges adapters with weights."""
    start = context.stage.start
    return context.stage.kind == "merge" and context.get("method") is not None and bool(start and start.adapters)


def job(context: StageContext) -> Job:
    adapters = _adapters(context)
    _check(context, adapters)
    document = Document(f"{context.folder}/merge.json", "json", _spec(context, adapters), bookkeeping=("card",))
    command = Command((PYTHON, PROGRAM, document.path), comment="PEFT, in the engine's environment")
    title = f"{context.name('method')} of {len(adapters)} adapters"
    return assemble.job_of(context, [document], [command], [], "model", title, runtime=MODULES)


def _adapters(context: StageContext) -> tuple[ModelRef, ...]:
    """The adapters that are combined: the last of the lineage, those below them being common."""
    start = context.stage.start
    assert start is not None, "checked before a stage is lowered"
    count = len(context.stage.parents) + len(context.stage.settings.items("models"))
    return start.adapters[-count:]


def _spec(context: StageContext, adapters: tuple[ModelRef, ...]) -> dict[str, Any]:
    """What runtime/merge_adapters.py reads."""
    start = context.stage.start
    assert start is not None, "checked before a stage is lowered"
    spec: dict[str, Any] = {"stage": context.folder, "method": context.name("method")}
    spec["model"] = context.paths.model(start.base)
    spec |= hub_options(start.base)
    spec["below"] = [context.paths.adapter(adapter) for adapter in start.adapters[: -len(adapters)]]
    weights = context.get("weights") or [1.0] * len(adapters)
    rows = zip(adapters, weights, strict=False)
    spec["adapters"] = [
        {"adapter": context.paths.adapter(adapter), "weight": float(weight)} for adapter, weight in rows
    ]
    for name in ("density", "rank", "signs"):
        if (value := context.option("method", name)) is not None:
            spec[name] = value if isinstance(value, bool | int) else float(getattr(value, "number", value))
    made = f"{context.name('method')} of the adapters {', '.join(map(_name, adapters))}, by PEFT."
    return spec | merged(context, made, "finetune")


def _name(adapter: ModelRef) -> str:
    if isinstance(adapter, StageRef):
        return adapter.stage
    inner = adapter.options.get("where", adapter)
    if isinstance(inner, Term):
        return str(inner.options.get("id") or inner.options.get("path") or inner.name)
    return inner.stage if isinstance(inner, StageRef) else str(inner)


def _check(context: StageContext, adapters: tuple[ModelRef, ...]) -> None:
    """What cannot be merged, before anything starts."""
    method = context.name("method")
    refuse_quantised(context)
    if method not in METHODS:
        help = "write `method = cat`, or merge each adapter into its base first"
        context.refuse("method", f"`{method}` merges whole models, and these are adapters", help)
    if len(adapters) < 2:
        context.refuse("method", f"`{method}` needs two adapters or more", "name them in `from`, or in `models`")
    if context.get("base") is not None:
        context.refuse("base", "adapters have their base already", "drop it")
    if context.get("densities") is not None:
        context.refuse("densities", "PEFT takes one density for all adapters", f"write `{method}(density = 50%)`")
    if context.option("method", "normalize") is not None:
        context.refuse(
            "method", "PEFT takes weights as they are", "drop `normalize`, and write `weights` that add up to 1"
        )
    weights = context.get("weights")
    if weights is not None and len(weights) != len(adapters):
        text = f"there are {len(weights)} `weights`, and {len(adapters)} adapters"
        context.refuse("weights", text, "write one for each")
    if weights is not None and method in OF_FACTORS and any(float(weight) < 0 for weight in weights):
        help = "write `method = cat`, or `svd`"
        context.refuse("weights", f"`{method}` takes the roots of weights, and one is negative", help)
    if method in ("ties", "dare") and context.option("method", "density") is None:
        context.refuse("method", f"`{method}` needs a `density`", f"write `{method}(density = 50%)`")
    if context.get("legacy"):
        context.refuse("legacy", "a merge of adapters is written as safetensors", "drop it")
    if weights is not None and not any(weights):
        context.refuse("weights", "all weights are 0, and nothing is left of the adapters", "weigh one of them more")
    _check_adapters(context, adapters)
    if merges_reward_model(context):
        context.refuse(
            "method", "reward models have heads, of which there is no weighted sum", "merge one of them alone"
        )


def _check_adapters(context: StageContext, adapters: tuple[ModelRef, ...]) -> None:
    """Adapters of this recipe that have no weighted sum; runtime/merge_adapters.py looks at all others."""
    method, key = context.name("method"), "models" if context.is_explicit("models") else "method"
    alone = "merge it into its base alone, and merge whole models: `method = linear`"
    ranks: dict[str, int] = {}
    for at, adapter in enumerate(adapters):
        if adapter in adapters[:at]:
            context.warn(key, f"`{_name(adapter)}` is added up twice", "name each adapter once, and write `weights`")
        if not isinstance(adapter, StageRef):
            continue
        planned = context.plan.stage(adapter.key)
        settings, name = planned.stage.settings, _name(adapter)
        if planned.method not in ("", "lora"):
            text = f"`{name}` is trained by `{planned.method}`, and only LoRA adapters have weighted sums"
            context.refuse(key, text, alone)
        elif settings.has("lora"):
            if (variant := settings.name("lora.variant")) not in ("", "plain"):
                context.refuse(key, f"`{name}` is {variant}, and only plain LoRA adapters have weighted sums", alone)
            if settings.items("lora.modules_to_save"):
                context.refuse(key, f"`{name}` holds whole modules, of which there is no weighted sum", alone)
            if isinstance(rank := settings.get("lora.rank"), int):
                ranks[name] = rank
    if method in OF_FACTORS and len({*ranks.values()}) > 1:
        listed = ", ".join(f"`{name}` {rank}" for name, rank in ranks.items())
        text = f"`{method}` adds up the factors of adapters, whose ranks differ: {listed}"
        context.refuse("method", text, "write `method = cat`, or `svd`")
