"""What a training stage says of its rows as a whole: how several sources are mixed, and which rows are held out."""

from __future__ import annotations

from collections.abc import Sequence

from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import Amount, Term


def mixture(context: StageContext, sources: int, weights: Sequence[float]) -> tuple[str, list[float]] | None:
    """(what ends the mixture: `first`, `all` or `once`; each source's share, [] where none has a weight).

    None where every row is taken once, and for a mixture that is refused. weights: those that the sources have.
    """
    mix = context.get("mix")
    if weights and len(weights) != sources:
        context.refuse("data", "some sources of this mixture have a weight and some have none", "give each a `weight`")
        return None
    if not weights and (mix is None or mix.name == "concat"):
        return None
    if mix is not None and mix.name == "concat":
        help = "write `mix = interleave(all)`"
        context.refuse("mix", "weights need `interleave`; `concat` takes every row once", help)
        return None
    until = mix.options.get("until") if mix else None
    total = sum(weights)
    return until.name if isinstance(until, Term) else str(until or "all"), [weight / total for weight in weights]


def held_out(context: StageContext) -> float | int | None:
    """Rows of the training data that `evaluate` measures: a share, or how many. None where it names other data, or none."""
    held = context.get("evaluate.data")
    if isinstance(held, Amount):
        return held.number if held.unit == "share" else int(held.number)
    return held if isinstance(held, int | float) and not isinstance(held, bool) else None
