"""Names that follow from what a recipe measures and reads: completion of goals, gates and columns."""

from __future__ import annotations

from collections.abc import Iterator

from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.lsp.document import Document
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.recipe.search import OF_EVERY_STAGE, TRAINED
from ftdsl.session import Session


def _checked(document: Document, name: str) -> tuple[Stage, Recipe] | None:
    """A stage as the last check saw it."""
    checked = document.result.checked if document.result else None
    recipe = checked.recipe if checked else None
    stage = next((stage for stage in recipe.stages if stage.name == name), None) if recipe else None
    return (stage, recipe) if stage is not None and recipe is not None else None


def metrics(document: Document, name: str) -> Iterator[str]:
    """Metrics of a stage: of a training its losses, of an `eval` stage its scores; of every stage time, memory and size."""
    kind = document.stages.get(name, "")
    if kind == "eval":
        yield from scores(document, name)
    elif kind in TRAINING:
        yield from ("reward", *TRAINED) if kind == "grpo" else TRAINED
    yield from OF_EVERY_STAGE


def scores(document: Document, name: str) -> list[str]:
    """Scores of an `eval` stage in the last check; without one all that an engine computes."""
    from ftdsl.recipe.rules.evaluation import SCORES, measured_scores

    checked_stage = _checked(document, name)
    if checked_stage is None:
        return sorted({score for scores in SCORES.values() for score in scores})
    return sorted(set(measured_scores(*checked_stage, Session(document.session_files()))))


def columns(document: Document, name: str) -> list[str]:
    """Columns of the first row that a stage reads; of a `data` stage those of its source."""
    from ftdsl.recipe.rules.post_training import columns_of
    from ftdsl.recipe.shape import first_row, only_source

    if (checked_stage := _checked(document, name)) is None:
        return []
    stage, recipe = checked_stage
    session = Session(document.session_files())
    if stage.kind != "data":
        return sorted(columns_of(stage, recipe, session) or ())
    source = only_source(stage.settings)
    return sorted(first_row(source, recipe.folder, session.files) or ()) if source is not None else []
