"""Findings about a run of ours, brought to its recipe: the line that decides, and changes with the values they would have."""

from __future__ import annotations

from pathlib import Path

from ftdsl.catalog.vocabulary import Key
from ftdsl.diagnose.examined import Examined, Training
from ftdsl.diagnose.judge import Change, Finding
from ftdsl.language.resolve import keys as language_keys
from ftdsl.language.values import Amount
from ftdsl.plan.plan import Plan, PlannedStage
from ftdsl.recipe.settings import shown
from ftdsl.record import frozen
from ftdsl.run.faults import span_of


@frozen
class Remedies:
    """recipe: where changes go, None where the run is none of ours; all: every change in order, with its stage's name."""

    recipe: Path | None = None
    plan: Plan | None = None
    all: tuple[tuple[str, Change], ...] = ()

    def stage(self, folder: str) -> PlannedStage | None:
        """The planned stage of a folder of the run."""
        stages = self.plan.stages if self.plan else ()
        return next((planned for planned in stages if planned.folder == folder), None)

    def line(self, folder: str, keys: tuple[str, ...]) -> str:
        """`recipe.ft:12: lr = 1.0`, the line of the first of these keys that is set; "" where there is none."""
        planned = self.stage(folder)
        if planned is None:
            return ""
        span = span_of(planned.stage, keys)
        row = span.source.position(span.start)[0]
        return f"{span.location}: {span.source.text.splitlines()[row - 1].strip()}"

    def changes(self, training: Training, finding: Finding) -> list[Change]:
        """The finding's changes as the recipe would have them; those that change nothing, or belong to another kind of stage,
        are left out.
        """
        planned = self.stage(training.key)
        if planned is None:
            return []
        return [made for change in finding.changes if (made := _made(change, planned)) is not None]

    def count(self, examined: Examined) -> int:
        """How many changes there are in all."""
        return sum(
            len(self.changes(training, finding)) for training in examined.trainings for finding in training.findings
        )


def _made(change: Change, planned: PlannedStage) -> Change | None:
    if not change.key or not isinstance(language_keys.find(planned.stage.kind, tuple(change.key.split("."))), Key):
        return None
    if change.key.startswith("lora.") and planned.method != "lora":
        return None
    present = planned.stage.settings.get(change.key)
    if change.factor:
        text = _scaled(present, change.factor)
        if text is None:
            return None
    else:
        text = change.value
    if present is not None and shown(present) == text:
        return None
    return Change(f"{change.text}: {change.key} = {text}", change.key, text)


def _scaled(present: object, factor: float) -> str | None:
    """A number of the recipe times a factor, as it is written; None where it is none."""
    number = present.number if isinstance(present, Amount) else present
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    if isinstance(number, int) and number * factor >= 1 and number * factor == int(number * factor):
        return str(int(number * factor))
    text = f"{number * factor:.3g}"
    mantissa, mark, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else text


def remedies_of(examined: Examined, recipe: Path, plan: Plan) -> Remedies:
    """What a recipe can do about what was found. plan: of the recipe as it is now."""
    remedies = Remedies(recipe, plan)
    changes = [
        (planned.stage.name, change)
        for training in examined.trainings
        if (planned := remedies.stage(training.key)) is not None
        for finding in training.findings
        for change in remedies.changes(training, finding)
    ]
    return Remedies(recipe, plan, tuple(changes))
