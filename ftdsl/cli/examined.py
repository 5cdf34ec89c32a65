"""What was found in trainings, with what their recipe can do about it: for `ftc diagnose` and the end of `ftc run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftdsl.diagnose.examined import Examined
    from ftdsl.plan.plan import Plan
    from ftdsl.run.remedies import Remedies


def remedies_in(examined: Examined) -> Remedies:
    """What the recipe of the run can do about it, as it is now; nothing where the path is no run of ours."""
    return remedies_by(examined, planned_at(examined.path) if examined.ailing else None)


def remedies_by(examined: Examined, planned: tuple[Path, Plan] | None) -> Remedies:
    """What a recipe and its plan can do about it; nothing without them."""
    from ftdsl.run.remedies import Remedies, remedies_of

    return remedies_of(examined, *planned) if planned else Remedies()


def planned_at(path: Path) -> tuple[Path, Plan] | None:
    """The recipe of the run that a path belongs to, as it is now, and its plan; None where there is none."""
    from ftdsl.pipeline import check
    from ftdsl.run.recipe_of import recipe_of
    from ftdsl.session import Session

    if (origin := recipe_of(path)) is None:
        return None
    plan = check(origin.recipe, origin.options, Session()).plan
    return (origin.recipe, plan) if plan else None


def document(examined: Examined, remedies: Remedies) -> dict[str, Any]:
    """A path as data; changes are numbered as --apply takes them."""
    from ftdsl.diagnose.causes import as_data as cause_as_data
    from ftdsl.diagnose.judge import as_data

    number = 0
    trainings = []
    for training in examined.trainings:
        findings = []
        for finding in training.findings:
            changes = remedies.changes(training, finding)
            numbered = [
                {"number": number + at, "text": change.text, "key": change.key, "value": change.value}
                for at, change in enumerate(changes, 1)
            ]
            number += len(changes)
            findings.append({**as_data(finding), "recipe": remedies.line(training.key, finding.keys) or None,
                             "remedy": training.remedy(finding), "changes": numbered or as_data(finding)["changes"]})  # fmt: skip
        cause = training.cause
        trainings.append({
            "source": training.curves.source, "stage": training.key or None, "steps": len(training.curves.loss),
            "healthy": training.enough and not findings and cause is None, "findings": findings,
            "cause": {**cause_as_data(cause), "recipe": remedies.line(training.key, cause.keys) or None} if cause else None,
        })  # fmt: skip
    return {"path": examined.path.as_posix(), "healthy": not examined.ailing, "trainings": trainings}
