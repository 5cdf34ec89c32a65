"""Hardware."""

from __future__ import annotations

from ftdsl.recipe.recipe import Recipe
from ftdsl.session import Session


def no_hardware(recipe: Recipe, session: Session) -> None:
    """Report once that without `hardware` one process and no GPU is assumed."""
    trained = [stage for stage in recipe.stages if stage.settings.may_have("optim")]
    if trained and not any(key.startswith("hardware.") for stage in trained for key in stage.origins):
        text = "no `hardware` block: one process and no GPU is assumed"
        session.sink.info("FT700", text, trained[0].span, help="write `hardware { gpu = h100(80GB), count = 8 }`")
