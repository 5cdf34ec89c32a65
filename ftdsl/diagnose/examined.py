"""A path examined: its trainings, what was found in each, and why a program broke."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ftdsl.diagnose.about import sections
from ftdsl.diagnose.causes import LATEST, Cause, cause_in_log, cause_of
from ftdsl.diagnose.curves import Curves
from ftdsl.diagnose.diagnosis import LEAST, diagnose
from ftdsl.diagnose.judge import JUDGES, Finding
from ftdsl.diagnose.read import LOG, UnreadableError, trainings
from ftdsl.runtime import events
from ftdsl.session import open_regular


@dataclass(frozen=True)
class Training:
    """One training and what ailed it. key: the stage's folder in a run of ours, else ""."""

    curves: Curves
    findings: tuple[Finding, ...] = ()
    cause: Cause | None = None

    @property
    def key(self) -> str:
        return self.curves.stage

    @property
    def enough(self) -> bool:
        """Whether enough was logged to call it healthy."""
        return len(self.curves.loss) >= LEAST

    @staticmethod
    def remedy(finding: Finding) -> str:
        """What the judge's documentation says to do."""
        return sections(JUDGES[finding.code])["What to do"]


@dataclass(frozen=True)
class Examined:
    """What was found at a path."""

    path: Path
    trainings: tuple[Training, ...]

    @property
    def ailing(self) -> bool:
        """Whether anything is wrong, or nothing could be judged."""
        return any(training.findings or training.cause or not training.enough for training in self.trainings)


def examine(path: Path) -> Examined:
    """Everything that a path tells. Raises: OSError; UnreadableError where it tells of no training and of no failure."""
    try:
        curves = trainings(path)
    except UnreadableError:
        curves = []
    results = [
        Training(training_curves, tuple(diagnose(training_curves)), _cause_beside(Path(training_curves.source)))
        for training_curves in curves
    ]
    results += [training for training in _broken_without_steps(path) if training.curves.source not in _sources(results)]
    if not results:
        raise UnreadableError(f"{path.as_posix()}: no training was logged here, and nothing broke")
    return Examined(path, tuple(results))


def _sources(results: list[Training]) -> set[str]:
    return {training.curves.source for training in results}


def _cause_beside(source: Path) -> Cause | None:
    """Why the program that logged this broke: from our events where they say it, else from the log."""
    if source.name == events.METRICS:
        return _cause_of_stage(source.parent)
    if source.suffix in (".jsonl", ".json"):
        return None
    return cause_in_log(_end_of(source))


def _cause_of_stage(folder: Path) -> Cause | None:
    last = events.last_attempt(events.read(folder / events.METRICS))
    end = next((event for event in reversed(last) if event["event"] == "end"), None)
    if end is not None and end.get("ok"):
        return None
    if end is not None and end.get("message"):
        keys = tuple(str(key) for key in end.get("keys") or ())
        return Cause("", str(end["message"]), keys, str(end.get("help") or ""), str(end.get("code") or "FT950"))
    for error in (end or {}).get("error", []):
        if cause := cause_of(error):
            return cause
    return cause_in_log(_end_of(folder / LOG))


def _broken_without_steps(path: Path) -> list[Training]:
    """Programs that broke before the first step: they have a log and no curve."""
    if path.is_file():
        logs = [] if path.suffix in (".jsonl", ".json") else [path]
    else:
        logs = [
            path / LOG,
            *(folder / LOG for folder in sorted(path.iterdir()) if folder.is_dir() and not folder.is_symlink()),
        ]
        logs += sorted(path.glob("*.log"))
    broken = []
    for log in logs:
        if not log.is_file():
            continue
        ours = (log.parent / events.METRICS).is_file()
        cause = _cause_of_stage(log.parent) if ours and log.name == LOG else cause_in_log(_end_of(log))
        if cause is not None:
            source = log.parent / events.METRICS if ours else log
            broken.append(Training(Curves(source.as_posix(), stage=log.parent.name if ours else ""), (), cause))
    return broken


def _end_of(log: Path) -> str:
    """The end of a log as text, of the last start of its stage; "" where there is none."""
    try:
        with open_regular(log) as handle:
            size = handle.seek(0, 2)
            handle.seek(max(0, size - 2 * LATEST))
            return events.since_last_start(handle.read(2 * LATEST).decode("utf-8", "replace"))
    except OSError:
        return ""
