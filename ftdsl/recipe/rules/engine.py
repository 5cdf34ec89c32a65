"""The escape hatch: every key of a `llamafactory { }` block is held against the engine's own parameters."""

from __future__ import annotations

from ftdsl import catalog
from ftdsl.diagnostics import guessed
from ftdsl.diagnostics.suggest import closest
from ftdsl.environments import Versions
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.session import Session
from ftdsl.source import Span


def passthrough(recipe: Recipe, session: Session) -> None:
    """Unknown parameters, parameters with a word of their own, and derived ones are refused."""
    for stage in recipe.stages:
        for name in stage.settings.inside("llamafactory"):
            _check(stage, name, recipe.versions, session)


def _check(stage: Stage, name: str, versions: Versions, session: Session) -> None:
    key = f"llamafactory.{name}"
    span = stage.keys.get(key, stage.span)
    standing = catalog.standing("llamafactory", name)
    if name not in versions.schema and (standing is None or standing.kind == "passthrough"):
        _unknown(name, span, versions, session)
    elif standing is None:
        return  # a parameter of an older or newer version than the words were made for
    elif standing.kind == "word":
        text = f"`{name}` has a word here: `{standing.word}`"
        session.sink.error("FT014", text, span, help=f"write `{standing.word} = …` outside the `llamafactory` block")
    elif standing.kind == "derived":
        session.sink.error("FT013", f"`{name}` is worked out from the recipe", span, help="drop it")
    elif standing.kind == "dead":
        session.sink.error("FT001", f"`{name}` has no effect in LLaMA-Factory {versions.of()}", span, help="drop it")


def _unknown(name: str, span: Span, versions: Versions, session: Session) -> None:
    """A typo, or a parameter that comes later or is gone."""
    history = versions.history(name)
    here = f"LLaMA-Factory {versions.of()}"
    if history is None:
        guess = closest(name, list(versions.schema))
        label = f"did you mean `{guess}`?" if guess else ""
        fix = guessed(span, guess)
        session.sink.error("FT001", f"{here} has no parameter `{name}`", span, label=label, fix=fix)
        return
    owner = "LLaMA-Factory" if history.package == "llamafactory" else history.package
    if history.package != "llamafactory":
        here = f"{owner} {versions.of(history.package)}"
    if history.until and catalog.numbers(history.until) <= catalog.numbers(versions.of(history.package)):
        help = f"write `{history.replaced_by}`" if history.replaced_by else "drop it"
        said = f"it is gone since {owner} {history.until}"
    else:
        said, help = f"it exists since {owner} {history.since}", ""
    session.sink.error("FT001", f"{here} has no parameter `{name}`: {said}", span, help=help)
