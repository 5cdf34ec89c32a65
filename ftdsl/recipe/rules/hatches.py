"""`deepspeed { }`, `accelerate { }` and `megatron { }`: every key is held against what the package itself reads.

DeepSpeed ignores unknown keys of its top level, and accelerate those inside `fsdp_config`: a typo there trains with
another configuration than was meant.
"""

from __future__ import annotations

from ftdsl import catalog
from ftdsl.diagnostics import guessed
from ftdsl.diagnostics.suggest import closest
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
            for path in () if other and block == "megatron" else stage.settings.inside(block):
                _check(stage, block, path, session)


def _check(stage: Stage, block: str, path: str, session: Session) -> None:
    span = stage.keys.get(f"{block}.{path}", stage.span)
    word = catalog.hatch_word("llamafactory", block, path)
    if word is not None:
        text = f"`{path}` has a word here: `{word}`"
        session.sink.error("FT014", text, span, help=f"write `{word} = …` outside the `{block}` block")
        return
    sections = catalog.hatch_sections(block)
    section = ""
    for name in path.split("."):
        known = sections.get(section)
        if known is None:
            return  # a section whose keys are the author's: names of modules, parameters of an optimizer
        if name not in known:
            where = f"{NAMES[block]} has no key `{name}`" + (f" in `{section}`" if section else "")
            guess = closest(name, known)
            label = f"did you mean `{guess}`?" if guess else ""
            session.sink.error("FT001", where, span, label=label, fix=guessed(span, guess))
            return
        section = f"{section}.{name}" if section else name
