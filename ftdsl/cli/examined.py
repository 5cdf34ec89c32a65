"""What was found in trainings, with what their recipe can do about it: for `ftc diagnose` and the end of `ftc run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftdsl.diagnose.examined import Examined
    from ftdsl.run.remedies import Remedies


def remedies_in(examined: Examined) -> Remedies:
    """What the recipe of the run can do about it, as it is now; nothing where the path is no run of ours."""
    from ftdsl.pipeline import check
    from ftdsl.run.recipe_of import recipe_of
    from ftdsl.run.remedies import Remedies, remedies_of
    from ftdsl.session import Session

    if not examined.ailing or (origin := recipe_of(examined.path)) is None:
        return Remedies()
    plan = check(origin.recipe, origin.options, Session()).plan
    return remedies_of(examined, origin.recipe, plan) if plan else Remedies()


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
