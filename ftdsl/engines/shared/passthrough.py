"""Passthrough blocks (`llamafactory { }`, `deepspeed { }`) go to a program unchanged: every key is checked against the keys
that the program reads.

DeepSpeed ignores unknown keys at its top level, and accelerate those inside `fsdp_config`: with a typo there, the run would
use another configuration than intended, without a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from ftdsl import catalog
from ftdsl.diagnostics import guessed
from ftdsl.diagnostics.suggest import closest
from ftdsl.engines import registry
from ftdsl.engines.engine import Engine
from ftdsl.environments import Versions
from ftdsl.language.values import Term
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.session import Session
from ftdsl.source import Span

TITLES = {"deepspeed": "DeepSpeed", "accelerate": "accelerate", "megatron": "the mcore adapter"}


def check(recipe: Recipe, session: Session) -> None:
    """Unknown keys, and keys that a key of the language sets, are errors."""
    for stage in recipe.stages:
        engine, versions = registry.get(recipe.engine_of(stage)), recipe.versions_of(stage)
        if engine is None:
            continue
        for name in stage.settings.inside(engine.name):
            _check_parameter(stage, name, engine, versions, session)
        for name in catalog.known_engines():
            if name != engine.name and stage.settings.inside(name):
                _refuse_other(stage, name, engine, session)
        strategy = stage.settings.get("parallel.strategy")
        bridged = isinstance(strategy, Term) and strategy.options.get("bridge")  # its keys are not in the catalogue
        for block in TITLES:
            written = stage.settings.inside(block)
            for path in () if bridged and block == "megatron" else written:
                _check_key(stage, block, path, engine, versions, session)
            for path in written:
                if inner := next((key for key in written if key.startswith(f"{path}.")), ""):
                    text = f"`{path}` has a value, and `{inner}` is set in it"
                    session.sink.error("FT006", text, stage.keys.get(f"{block}.{path}", stage.span), help="drop one")


def _refuse_other(stage: Stage, block: str, engine: Engine, session: Session) -> None:
    """A passthrough block of another engine than the stage's."""
    other = registry.get(block)
    title = other.title if other else block
    text = f"`{block} {{ }}` is for {title}, and `{stage.name}` runs on {engine.title}"
    session.sink.error("FT012", text, stage.spans.get(block, stage.span), help="drop it, or choose that engine")


def _check_parameter(stage: Stage, name: str, engine: Engine, versions: Versions, session: Session) -> None:
    key = f"{engine.name}.{name}"
    span = stage.keys.get(key, stage.span)
    parameter_status = catalog.parameter_status(engine.name, name)
    schema = engine.parameters(stage, versions) if engine.parameters else versions.schema
    if name not in schema and (parameter_status is None or parameter_status.kind == "passthrough"):
        _unknown(name, span, engine, versions, schema, session)
    elif parameter_status is None:
        return  # a parameter of an older or newer version than the overlay was made for
    elif parameter_status.kind == "word":
        text = f"`{name}` is set by the key `{parameter_status.word}`"
        session.sink.error(
            "FT014", text, span, help=f"write `{parameter_status.word} = …` outside the `{engine.name}` block"
        )
    elif parameter_status.kind == "derived":
        session.sink.error("FT013", f"`{name}` is derived from the recipe", span, help="drop it")
    elif parameter_status.kind == "dead":
        session.sink.error("FT001", f"`{name}` has no effect in {engine.title} {versions.of()}", span, help="drop it")


def _unknown(
    name: str, span: Span, engine: Engine, versions: Versions, schema: Mapping[str, catalog.Fact], session: Session
) -> None:
    """A typo, or a parameter that only a later or an earlier version has."""
    history = versions.history(name)
    title = f"{engine.title} {versions.of()}"
    if history is None:
        guess = closest(name, list(schema))
        label = f"did you mean `{guess}`?" if guess else ""
        fix = guessed(span, guess)
        session.sink.error("FT001", f"{title} has no parameter `{name}`", span, label=label, fix=fix)
        return
    owner = engine.title if history.package == engine.name else history.package
    if history.package != engine.name:
        title = f"{owner} {versions.of(history.package)}"
    if history.until and catalog.numbers(history.until) <= catalog.numbers(versions.of(history.package)):
        help = f"write `{history.replaced_by}`" if history.replaced_by else "drop it"
        since = f"removed in {owner} {history.until}"
    else:
        since, help = f"added in {owner} {history.since}", ""
    session.sink.error("FT001", f"{title} has no parameter `{name}`: {since}", span, help=help)


def _check_key(stage: Stage, block: str, path: str, engine: Engine, versions: Versions, session: Session) -> None:
    span = stage.keys.get(f"{block}.{path}", stage.span)
    key = catalog.passthrough_key(engine.name, block, path)
    if key is not None:
        text = f"`{path}` is set by the key `{key}`"
        session.sink.error("FT014", text, span, help=f"write `{key} = …` outside the `{block}` block")
        return
    names = _names(block, versions.facts(block))
    section = ""
    for name in path.split("."):
        full = f"{section}.{name}" if section else name
        beside = [key.rpartition(".")[2] for key in names if key.rpartition(".")[0] == section]
        if not beside:
            return  # a section with free keys: names of modules, parameters of an optimizer
        if full not in names:
            where = f"{TITLES[block]} has no key `{name}`" + (f" in `{section}`" if section else "")
            guess = closest(name, beside)
            label = f"did you mean `{guess}`?" if guess else ""
            session.sink.error("FT001", where, span, label=label, fix=guessed(span, guess))
            return
        section = full


@lru_cache(maxsize=64)
def _names(block: str, version: str) -> frozenset[str]:
    """Keys by dotted path, with DeepSpeed's aliases."""
    schema = catalog.passthrough_schema(block, version)
    aliases = ((path, fact.get("alias")) for path, fact in schema.items())
    sections = (path.rpartition(".")[0] for path in schema if "." in path)
    by_alias = (".".join([*path.split(".")[:-1], alias]) for path, alias in aliases if alias)
    return frozenset([*schema, *by_alias, *sections])
