"""Sound checkpoints, and destinations that belong to the stage that wrote them. Standard library only.

A checkpoint is sealed once it is whole: `ftdsl.json` in it lists its files. One without a seal was broken off while it was
written; one whose files are not those it was sealed with was damaged since. A destination outside the run folder
carries a mark of the stage that wrote it last, so that no stage resumes from what another left, and nothing that a person
put there is moved.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from .events import STARTED_AS, processes_of

SEAL = "ftdsl.json"
MARKER = ".ftdsl.json"
HASHED = 2 << 30
"""Bytes of a checkpoint up to which what its files hold is sealed too; of larger ones their sizes."""


class TakenError(Exception):
    """A destination holds something that no stage made, or a stage that still runs writes there."""


def seal(checkpoint: Path, *, finite: bool = True) -> None:
    """Record the files of a complete checkpoint. finite: whether loss and gradients of its step were finite. Raises: OSError."""
    files = [path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name != SEAL]
    sizes = {path: path.stat().st_size for path in files}
    hashed = sum(sizes.values()) <= HASHED
    listed = {
        path.relative_to(checkpoint).as_posix(): [size, _digest(path) if hashed else ""] for path, size in sizes.items()
    }
    document = {"schema": 1, "files": listed} | ({} if finite else {"finite": False})
    _write(checkpoint / SEAL, document)


def changed_since(checkpoint: Path) -> bool:
    """Whether something was written to a checkpoint after it was sealed."""
    try:
        when = (checkpoint / SEAL).stat().st_mtime_ns
        return any(path.stat().st_mtime_ns > when for path in checkpoint.rglob("*") if path.is_file())
    except OSError:
        return False


def damage(checkpoint: Path) -> str:
    """What is wrong with a checkpoint; "" when it is whole."""
    try:
        listed = json.loads((checkpoint / SEAL).read_bytes())["files"]
        for name, (size, digest) in listed.items():
            path = checkpoint / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size:,} of {size:,} bytes"
            if digest and _digest(path) != digest:
                return f"{name} holds something else than was saved"
    except FileNotFoundError:
        return "it was not finished"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "what it consists of cannot be read"
    return ""


def newest_first(output: Path) -> list[Path]:
    checkpoints = [
        path
        for path in output.glob("checkpoint-*")
        if path.name.removeprefix("checkpoint-").isdigit() and path.is_dir()
    ]
    return sorted(checkpoints, key=lambda path: -int(path.name.removeprefix("checkpoint-")))


def finite(checkpoint: Path) -> bool:
    """Whether loss and gradients were finite at the step after which a sealed checkpoint was saved."""
    return (_read(checkpoint / SEAL) or {}).get("finite") is not False


def last_good(output: Path) -> tuple[Path | None, list[tuple[Path, str]]]:
    """The newest checkpoint that is whole and finite, None where there is none; damaged newer ones are set aside, and why."""
    broken = set_broken_aside(output)
    return next((path for path in newest_first(output) if finite(path) and not damage(path)), None), broken


def rotate(output: Path, keep: int, protected: Path | None = None) -> None:
    """Remove old checkpoints but the `keep` newest (at least two, so that one is left when the newest turns out damaged) and the
    protected one. Only behind sound ones: those that are not do not count.
    """
    sound = [path for path in newest_first(output) if finite(path) and (path / SEAL).is_file()]
    for path in sound[max(2, keep) :]:
        if protected is None or path.resolve() != protected.resolve():
            shutil.rmtree(path, ignore_errors=True)


def set_broken_aside(output: Path) -> list[tuple[Path, str]]:
    """Give damaged checkpoints that are newer than the newest whole one another name; those, and what is wrong with each."""
    broken = []
    for checkpoint in newest_first(output):
        why = damage(checkpoint)
        if not why:
            break
        aside = _free(output / f"broken-{checkpoint.name}")
        checkpoint.rename(aside)
        broken.append((aside, why))
    return broken


def claim(output: Path, stage: str) -> Path | None:
    """Make a destination the stage's own: an earlier result of it, or another stage's, is set aside; its new name, or None where
    there was none, or where the stage can resume. Raises: OSError; TakenError if its content was not made by a stage, or
    if another start that has not ended is making it: of two recipes, or of two variants, with one destination.
    """
    inside = Path(stage).resolve() in output.resolve().parents
    mine = _mark(stage)
    aside = None
    if output.is_dir() and any(output.iterdir()):
        known = _read(output / MARKER)
        if known is None and not inside:
            raise TakenError(f"{output} is there already, and no stage has made it")
        start = known.pop("start", "") if isinstance(known, dict) else ""
        if start and start != os.environ.get(STARTED_AS) and (process := next(processes_of(start), 0)):
            raise TakenError(f"{output} is being written by another stage, which still runs (process {process})")
        if known != mine or not newest_first(output):
            aside = _free(output.with_name(f"{output.name}.before-1"))
            output.rename(aside)
    output.mkdir(parents=True, exist_ok=True)
    _write(output / MARKER, mine | {"start": os.environ.get(STARTED_AS, "")})
    return aside


def _mark(stage: str) -> dict[str, Any]:
    """The mark of a stage: its name, its key (from `ftc run`), and a hash of its folder."""
    where = hashlib.sha256(str(Path(stage).resolve()).encode()).hexdigest()[:16]
    return {"schema": 1, "stage": stage, "key": os.environ.get("FTC_STAGE_KEY", ""), "where": where}


def _free(path: Path) -> Path:
    """A name that nothing has, with another number at its end."""
    base, number = path.name.removesuffix("-1") if ".before-" in path.name else path.name, 1
    while path.exists():
        number += 1
        path = path.with_name(f"{base}-{number}")
    return path


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _write(path: Path, document: dict[str, Any]) -> None:
    beside = path.with_name(f".{path.name.lstrip('.')}.new")
    with beside.open("w", encoding="utf-8") as handle:
        json.dump(document, handle, indent=1)
        handle.flush()
        os.fsync(handle.fileno())
    beside.replace(path)


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
