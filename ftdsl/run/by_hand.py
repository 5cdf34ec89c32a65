"""Results of `run.sh`, which `runtime/by_hand.py` records, as runs whose results can be used.

A stage counts as done when it is this build's (the same documents and commands, comments aside), when the files it read had the
content they have now, and its packages the versions they have now; and when all that is true of the stages it needs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ftdsl.engines.jobs import Job
from ftdsl.observe.progress import Status
from ftdsl.run.cache_keys import CacheKeys
from ftdsl.run.events import NAME
from ftdsl.run.fingerprint import ABSENT
from ftdsl.run.store import JobState, Run
from ftdsl.session import LARGE, open_regular, read_json
from ftdsl.targets.manifest import NAME as MANIFEST

RECORD = ".by-hand.json"


def folders(home: Path) -> list[Path]:
    """Run folders of `run.sh` beside those of `ftc run`, also those of the recipe without its options; newest first."""
    base = home.with_name(home.name.partition("@")[0])
    manifests = {manifest for parent in (home, base) for manifest in parent.glob(f"*/{MANIFEST}")}
    run_folders = [
        manifest.parent
        for manifest in manifests
        if not (manifest.parent / NAME).exists() and not manifest.parent.is_symlink()
    ]
    return sorted(run_folders, key=lambda folder: (-folder.stat().st_mtime_ns, folder.name))


def runs(home: Path, jobs: tuple[Job, ...], keys: CacheKeys) -> list[Run]:
    """The runs of `run.sh`, with those jobs that are done as they would be now."""
    started_by_hand = []
    for folder in folders(home):
        run = Run(folder)
        for job in jobs:
            needs = {
                other.folder: run.jobs[other.key].handle
                for other in jobs
                if other.key in run.jobs.keys() & {*job.needs}
            }
            if len(needs) == len(set(job.needs)) and (state := _state(folder, job, keys, needs)):
                run.jobs[job.key] = state
        if run.jobs:
            started_by_hand.append(run)
    return started_by_hand


def _state(run: Path, job: Job, keys: CacheKeys, needs: dict[str, str]) -> JobState | None:
    """The state of a job that is done; None where it is not. needs: the recorded keys of what it needs, by folder."""
    folder = run / job.folder
    try:
        record: Any = read_json(folder / RECORD, LARGE)
        made, inputs, packages = record["made"], record["inputs"], record["packages"]
        started, ended, key = float(record["started"]), float(record["ended"]), str(record["key"])
        same = (
            (folder / "done").exists()
            and record["needs"] == needs
            and _same_inputs(inputs, keys.inputs(job), keys.folder)
        )
        same = same and all(packages.get(name) == version for name, version in keys.packages(job).items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    if not same or not isinstance(made, dict) or not made or not _same_files(run, job):
        return None
    facts = keys.facts[job.key]
    return JobState(Status.DONE, keys[job.key], started, ended, folder=job.folder, facts=facts, handle=key, made=made)


def _same_inputs(then: dict[str, str], now: dict[str, str], folder: Path) -> bool:
    """Every file that is read now had this content then, and none that was read then is gone."""
    if any(then.get(path, ABSENT) != digest for path, digest in now.items()):
        return False
    return all(path in now or digest == ABSENT or (folder / path).exists() for path, digest in then.items())


def _same_files(run: Path, job: Job) -> bool:
    """Whether the script and documents that ran are those of the build. Places in the recipe and comments do not count."""
    from ftdsl.targets.artifacts import document_text, launch_text

    texts = {document.path: document_text(document) for document in job.documents}
    texts[f"{job.folder}/launch.sh"] = launch_text(job)
    return all(_plain(_read(run / path)) == _plain(text) for path, text in texts.items())


def _read(path: Path) -> str:
    with open_regular(path) as handle:
        text: str = handle.read(LARGE).decode("utf-8", "replace")
    return text


def _plain(text: str) -> list[str]:
    lines = [line for line in text.split("\n") if not line.startswith("#")]
    return [re.sub(r'"where": "[^"]*",*', "", line) for line in lines]
