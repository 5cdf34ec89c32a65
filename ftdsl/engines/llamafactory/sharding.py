"""LLaMA-Factory's own parallelism, its Megatron path and its Ray workers, in addition to `shared/parallel`."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.llamafactory import megatron
from ftdsl.engines.shared import parallel
from ftdsl.engines.shared.parallel.common import launcher
from ftdsl.engines.shared.stage_context import StageContext


def check(context: StageContext) -> None:
    """Errors for settings of several processes that cannot work."""
    parallel.check(context)
    megatron.check(context)


def with_params(context: StageContext, params: dict[str, Any]) -> dict[str, Any]:
    """The stage's parameters, with those that sharding and launching add or remove."""
    return parallel.with_params(context, megatron.filter_params(context, params) | ray_params(context))


def ray_params(context: StageContext) -> dict[str, Any]:
    """LLaMA-Factory's parameters for a run on a Ray cluster."""
    if launcher(context) != "ray":
        return {}
    params: dict[str, Any] = {"ray_num_workers": context.planned.world.size}
    wanted = context.stage.settings.inside("launch.runtime_env")
    if wanted:
        params["ray_init_kwargs"] = {"runtime_env": wanted}
    if context.is_explicit("launch.head"):
        params["master_addr"] = str(context.get("launch.head"))
    if context.is_explicit("launch.port"):
        params["master_port"] = str(context.get("launch.port"))
    return params
