"""The engine of a stage that asks for what only one engine has, where the recipe names none."""

from __future__ import annotations

from collections.abc import Iterable

from ftdsl import catalog
from ftdsl.language.values import Origin, StageRef, Term
from ftdsl.recipe.recipe import Stage
from ftdsl.record import replace


def with_engines(stages: tuple[Stage, ...], *, named: bool) -> tuple[Stage, ...]:
    """The stages, each with the engine that it needs as a setting, and the reason as its origin.

    named: the file names an engine: then no other is chosen.
    """
    needed: dict[str, tuple[str, str]] = {}
    chosen = []
    for stage in stages:
        need = _own(stage) or _of_adapters(stage, needed)
        if need:
            needed[stage.key] = need
        if need and not named and not stage.settings.name("engine"):
            settings = stage.settings.with_values({"engine": Term(need[0])})
            stage = replace(stage, settings=settings, origins={**stage.origins, "engine": Origin("auto", "", need[1])})
        chosen.append(stage)
    return tuple(chosen)


def _own(stage: Stage) -> tuple[str, str] | None:
    """(engine, reason) of the first thing that only one engine has."""
    only = catalog.facts("only")
    for key in _asked(stage):
        if key in only:
            return only[key], f"no other engine has `{key}`"
    for key, table in (("lora.variant", "variant"), ("lora.init", "init")):
        member = stage.settings.name(key) if stage.settings.has("lora") else ""
        if member and member in catalog.variants(table):
            return catalog.variants(table)[member]["engine"], f"no other engine has `{key} = {member}`"
    return None


def _asked(stage: Stage) -> Iterable[str]:
    return (stage.kind, *sorted(stage.settings.blocks), *(key for key, value in stage.settings.values.items() if value))


def _of_adapters(stage: Stage, needed: dict[str, tuple[str, str]]) -> tuple[str, str] | None:
    """The engine that has made an adapter that the stage starts from, and that no other knows."""
    for adapter in stage.start.adapters if stage.start else ():
        if isinstance(adapter, StageRef) and (maker := needed.get(adapter.key)):
            return maker[0], f"`{adapter.stage}` makes an adapter that no other engine reads"
    return None
