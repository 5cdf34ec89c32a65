"""`by_hand.py begin|end|same FOLDER`: a record of a stage that `run.sh` runs, by which `ftc run` can use its result.

`begin` records what the stage reads (SHA-256 of files, versions of packages, the records of the stages it needs) and prints a key
of it; `end` records what it made; `same` fails when a stage that is done was made of something else than what is there now. The
working directory is the run folder. Standard library only.
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # this folder: no module in it stands in for one of the standard library

import glob
import hashlib
import json
import os
import re
import time
from typing import Any

RECORD = ".by-hand.json"
ABSENT = "absent"
NOISE = ("runs", "wandb", "__pycache__")


def digest(path: str) -> str:
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest() if sys.version_info >= (3, 11) else _digest(handle)
    except OSError:
        return ABSENT


def _digest(handle: Any) -> str:
    digest = hashlib.sha256()
    while piece := handle.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def tree(path: str) -> list[str]:
    """The files below a folder, without checkpoints, hidden files and logs of trackers; a file is itself."""
    if not os.path.isdir(path):
        return [path]
    files = []
    for home, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith((".", "checkpoint-")) and name not in NOISE]
        files += [os.path.join(home, name) for name in names if not name.startswith(".")]
    return sorted(files)


def inputs_of(job: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of the files outside the run folder that a stage reads, by their paths relative to the recipe's folder."""
    base = os.path.realpath("inputs")
    digests = {}
    for written in (*job.get("inputs", ()), *job.get("reads", ())):
        path = os.path.normpath(os.path.join(base, written))
        matches = [path] if os.path.exists(path) else glob.glob(path, recursive=True) or [path]
        for file in (file for match in matches for file in tree(match)):
            digests[os.path.relpath(file, base)] = digest(file)
    return digests


def packages() -> dict[str, str]:
    """Versions of the packages of this Python, by names of their folders."""
    versions: dict[str, str] = {}
    for folder in sys.path:
        for path in glob.glob(os.path.join(glob.escape(folder), "*.dist-info")):
            name, _, version = os.path.basename(path)[: -len(".dist-info")].partition("-")
            versions.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    return versions


def made_by(paths: list[str]) -> dict[str, list[Any]]:
    """Size, time in nanoseconds, inode and SHA-256 of the files that lie at paths of the run folder."""
    files: dict[str, list[Any]] = {}
    for file in (file for path in paths for file in tree(path)):
        if os.path.isfile(file):
            facts = os.stat(file)
            files[file] = [facts.st_size, facts.st_mtime_ns, facts.st_ino, digest(file)]
    return files


def read(folder: str) -> dict[str, Any]:
    """The record of a stage; empty where there is none."""
    try:
        with open(os.path.join(folder, RECORD), encoding="utf-8") as handle:
            record = json.load(handle)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def write(folder: str, record: dict[str, Any]) -> None:
    path = os.path.join(folder, RECORD)
    with open(path + ".new", "w", encoding="utf-8") as handle:
        json.dump(record, handle, indent=1, sort_keys=True)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(path + ".new", path)


def needs_of(job: dict[str, Any], jobs: list[dict[str, Any]]) -> dict[str, str]:
    """The keys of the stages that a stage needs, by their folders."""
    return {other["folder"]: read(other["folder"]).get("key", "") for other in jobs if other["key"] in job["needs"]}


def plain(path: str) -> str:
    """A file of the build without comments, and without places in the recipe."""
    with open(path, encoding="utf-8") as handle:
        text = "".join(line for line in handle if not line.startswith("#"))
    return re.sub(r'"where": "[^"]*",*', "", text)


def begin(job: dict[str, Any], jobs: list[dict[str, Any]], artifacts: list[str]) -> dict[str, Any]:
    facts = {"inputs": inputs_of(job), "needs": needs_of(job, jobs)}
    build = {path: plain(path) for path in sorted(artifacts) if path.startswith(f"{job['folder']}/")}
    key = hashlib.sha256(json.dumps([facts, build], sort_keys=True).encode()).hexdigest()
    return {"schema": 1, **facts, "key": key, "packages": packages(), "started": round(time.time(), 3)}


def changed(job: dict[str, Any], jobs: list[dict[str, Any]], record: dict[str, Any]) -> str:
    """The first file or stage that a stage was made of and that is another now; "" for none."""
    for then, now in ((record.get("inputs"), inputs_of(job)), (record.get("needs"), needs_of(job, jobs))):
        if then is not None:
            for name in sorted({*now, *then}):
                if now.get(name, ABSENT) != then.get(name, ABSENT):
                    return str(name)
    return ""


def main(argv: list[str]) -> int:
    """Exit 1 from `same` when something differs, else 0."""
    work, folder = argv
    with open("manifest.json", encoding="utf-8") as handle:
        manifest = json.load(handle)
    jobs = manifest["jobs"]
    job = next(job for job in jobs if job["folder"] == folder)
    record = read(folder)
    if work == "begin":
        record = begin(job, jobs, list(manifest["artifacts"]))
        write(folder, record)
        print(record["key"])
    elif work == "end":
        if name := changed(job, jobs, record):
            print(f"== {folder}: {name} changed while it ran: ftc run will make it again", file=sys.stderr)
            record.pop("inputs", None)
        write(folder, {**record, "made": made_by(job["makes"]), "ended": round(time.time(), 3)})
    elif name := changed(job, jobs, record):
        print(f"== {folder}: {name} is not what it was made of", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
