"""`deepspeed { }`, `accelerate { }` and `megatron { }`: every key is held against what the package itself reads.

DeepSpeed ignores unknown keys of its top level, and accelerate those inside `fsdp_config`: a typo there trains with
another configuration than was meant.
"""

from __future__ import annotations

from functools import cache

from ftdsl import catalog
from ftdsl.diagnostics import guessed
from ftdsl.diagnostics.suggest import closest
from ftdsl.environments import Versions
from ftdsl.language.values import Term
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.session import Session

NAMES = {"deepspeed": "DeepSpeed", "accelerate": "accelerate", "megatron": "the mcore adapter"}


def known_keys(recipe: Recipe, session: Session) -> None:
    """Unknown keys, and keys that a word of the language decides, are refused."""
    for stage in recipe.stages:
        strategy = stage.settings.get("parallel.strategy")
        other = isinstance(strategy, Term) and strategy.options.get("bridge")  # an adapter whose keys are not known
        for block in NAMES:
            written = stage.settings.inside(block)
            for path in () if other and block == "megatron" else written:
                _check(stage, block, path, recipe.versions, session)
            for path in written:
                if inner := next((one for one in written if one.startswith(f"{path}.")), ""):
                    text = f"`{path}` has a value, and `{inner}` is set in it"
                    session.sink.error("FT006", text, stage.keys.get(f"{block}.{path}", stage.span), help="drop one")


def _check(stage: Stage, block: str, path: str, versions: Versions, session: Session) -> None:
    span = stage.keys.get(f"{block}.{path}", stage.span)
    word = catalog.hatch_word("llamafactory", block, path)
    if word is not None:
        text = f"`{path}` has a word here: `{word}`"
        session.sink.error("FT014", text, span, help=f"write `{word} = …` outside the `{block}` block")
        return
    known = _names(block, versions.facts(block))
    section = ""
    for name in path.split("."):
        here = f"{section}.{name}" if section else name
        beside = [one.rpartition(".")[2] for one in known if one.rpartition(".")[0] == section]
        if not beside:
            return  # a section whose keys are the author's: names of modules, parameters of an optimizer
        if here not in known:
            where = f"{NAMES[block]} has no key `{name}`" + (f" in `{section}`" if section else "")
            guess = closest(name, beside)
            label = f"did you mean `{guess}`?" if guess else ""
            session.sink.error("FT001", where, span, label=label, fix=guessed(span, guess))
            return
        section = here


@cache
def _names(block: str, version: str) -> frozenset[str]:
    """Keys by dotted path, and what else DeepSpeed lets them be called."""
    known = catalog.hatch_keys(block, version)
    aliases = ((path, fact.get("alias")) for path, fact in known.items())
    sections = (path.rpartition(".")[0] for path in known if "." in path)
    others = (".".join([*path.split(".")[:-1], alias]) for path, alias in aliases if alias)
    return frozenset([*known, *others, *sections])
