"""What judges find in the trainings of a run, at its end: as text, and as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ftdsl.cli.examined import document as examined_as_data
from ftdsl.cli.examined import planned_at, remedies_by
from ftdsl.observe.progress import RunProgress, StageProgress, Status
from ftdsl.printable import one_line, typed

if TYPE_CHECKING:
    from ftdsl.diagnose.examined import Examined
    from ftdsl.run.remedies import Remedies

MOST = 3
"""Findings of a stage that are shown; `ftc diagnose` shows all."""

_ENDED = (Status.DONE, Status.FAILED, Status.REFUSED, Status.STOPPED)


def diagnosed(progress: RunProgress) -> list[tuple[StageProgress, Examined, Remedies]]:
    """The stages that this run carried out and that judges find something in, with what the recipe can do about it. Not those
    of an earlier run, of whom it was said then, nor of a smoke run, whose numbers mean nothing.
    """
    from ftdsl.diagnose.examined import examine
    from ftdsl.diagnose.read import UnreadableError
    from ftdsl.runtime import events

    results = []
    for stage in progress.having(*_ENDED) if not progress.smoke else ():
        folder = progress.folder / stage.folder
        if not (folder / events.METRICS).is_file():
            continue
        try:
            examined = examine(folder)
        except (OSError, UnreadableError):
            continue
        if any(training.findings for training in examined.trainings):
            results.append((stage, examined))
    planned = planned_at(progress.folder) if results else None
    return [(stage, examined, remedies_by(examined, planned)) for stage, examined in results]


def lines(progress: RunProgress) -> Iterator[str]:
    """Each finding with its evidence, the line of the recipe that decides it and a change; and what to type next."""
    for stage, examined, remedies in diagnosed(progress):
        yield f"\n{stage.key}: what its curves show"
        changes = 0
        for training in examined.trainings:
            for finding in training.findings[:MOST]:
                yield f"  {finding.message} [{finding.code} {finding.name}, {100 * finding.confidence:.0f} % sure]"
                yield f"    - {one_line(finding.evidence[0])}"
                if line := remedies.line(training.key, finding.keys):
                    yield f"    --> {one_line(line)}"
                suggested = remedies.changes(training, finding)
                changes += len(suggested)
                yield f"    = help: {suggested[0].text if suggested else training.remedy(finding)}"
            if more := len(training.findings[MOST:]):
                yield f"  and {more} more"
        path = typed((progress.folder / stage.folder).as_posix())
        yield f"next: ftc diagnose {path}" + (" --apply 1 --diff" if changes else "")


def document(progress: RunProgress) -> dict[str, list[dict[str, Any]]]:
    """Findings by the key of their stage, as `ftc diagnose --json` gives them."""
    result = {}
    for stage, examined, remedies in diagnosed(progress):
        trainings = examined_as_data(examined, remedies)["trainings"]
        result[stage.key] = [finding for training in trainings for finding in training["findings"]]
    return result
