"""The escape hatch: every key of a `llamafactory { }` block is held against the engine's own parameters."""

from __future__ import annotations

from ftdsl import catalog
from ftdsl.diagnostics import guessed
from ftdsl.diagnostics.suggest import closest
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.session import Session


def passthrough(recipe: Recipe, session: Session) -> None:
    """Unknown parameters, parameters with a word of their own, and derived ones are refused."""
    for stage in recipe.stages:
        for name in stage.settings.inside("llamafactory"):
            _check(stage, name, session)


def _check(stage: Stage, name: str, session: Session) -> None:
    key = f"llamafactory.{name}"
    span = stage.keys.get(key, stage.span)
    standing = catalog.standing("llamafactory", name)
    if standing is None:
        known = catalog.engine_schema("llamafactory")
        guess = closest(name, list(known))
        label = f"did you mean `{guess}`?" if guess else ""
        fix = guessed(span, guess)
        session.sink.error("FT001", f"LLaMA-Factory 0.9.5 has no parameter `{name}`", span, label=label, fix=fix)
    elif standing.kind == "word":
        text = f"`{name}` has a word here: `{standing.word}`"
        session.sink.error("FT014", text, span, help=f"write `{standing.word} = …` outside the `llamafactory` block")
    elif standing.kind == "derived":
        session.sink.error("FT013", f"`{name}` is worked out from the recipe", span, help="drop it")
    elif standing.kind == "dead":
        session.sink.error("FT001", f"`{name}` has no effect in LLaMA-Factory 0.9.5", span, help="drop it")
