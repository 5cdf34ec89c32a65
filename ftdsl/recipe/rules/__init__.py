"""Rules: semantic checks of the typed recipe, one module per family, in the order of this table."""

from __future__ import annotations

from collections.abc import Callable

from ftdsl.recipe.recipe import Recipe
from ftdsl.recipe.rules import data, destinations, evaluation, hardware, post_training, rows, search, smoke
from ftdsl.session import Session

RULES: tuple[Callable[[Recipe, Session], None], ...] = (
    hardware.no_hardware,
    data.files_exist,
    data.right_data_for_stage,
    rows.rows_fit,
    smoke.made_by_smoke,
    destinations.destination_is_a_folder,
    destinations.destination_is_its_own,
    destinations.destinations_are_apart,
    destinations.can_resume,
    evaluation.best_by_is_measured,
    evaluation.held_out_is_there,
    evaluation.held_out_shares,
    evaluation.own_files_are_there,
    evaluation.tasks_have_own_names,
    evaluation.gates_are_measured,
    search.search_is_whole,
    post_training.rewards_are_usable,
    post_training.room_for_answers,
    post_training.teacher_fits,
)


def check(recipe: Recipe, session: Session) -> None:
    """Run all rules; each reports to the session's sink."""
    for rule in RULES:
        rule(recipe, session)
