"""Which Pythons inside a project may be started: those ftc installed there, and those its user trusts.

A repository can bring `.engines/llamafactory/bin/python` along, and a recipe can name any file in it. What may be started is kept
outside of it, in the user's state folder; a token that only the two know ties the record to this very environment, so that
another one at the same path is not taken for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from ftdsl.environments import python_in
from ftdsl.storage import read_file, write_file

TOKEN = ".ftc-trusted"
"""The file beside a trusted Python."""

LARGE = 64 << 20
"""Bytes of a Python that are looked at."""


def state_file(env: Mapping[str, str]) -> Path | None:
    """Where the records are (XDG base directories: state); None without a home."""
    if base := env.get("XDG_STATE_HOME"):
        return Path(base) / "ftdsl" / "engines.json"
    return Path(env["HOME"], ".local", "state", "ftdsl", "engines.json") if env.get("HOME") else None


def why_not(python: Path, folders: tuple[Path, ...], env: Mapping[str, str]) -> str:
    """Why a Python must not be started unasked; "" when it may.

    folders: the recipe's, and the working directory. What is outside of their projects cannot have come with them.
    """
    if not any(_inside(python, project) for folder in folders for project in _projects(folder)):
        return ""
    known = _records(env).get(str(_real(python)))
    if known is None:
        return "ftc did not install it"
    if known != _fingerprint(python):
        return "it is not the one that was trusted"
    if _tracked(python):
        return "files of it are in the repository"
    return ""


def trust(python: Path, env: Mapping[str, str]) -> Path:
    """Record that a Python may be started: where the record is kept. Raises: OSError."""
    record = state_file(env)
    if record is None:
        raise FileNotFoundError(2, "there is no home folder to keep it in; set XDG_STATE_HOME")
    if not python.exists():
        raise FileNotFoundError(2, "there is no such Python", str(python))
    token = _real(python).with_name(TOKEN)
    if _token(python) == "":
        write_file(token, os.urandom(16).hex().encode() + b"\n")
    records = {**_records(env), str(_real(python)): _fingerprint(python)}
    text = json.dumps({"schema": 1, "trusted": dict(sorted(records.items()))}, indent=1)
    write_file(record, f"{text}\n".encode())
    return record


def python_of(path: Path) -> Path:
    """The Python of an environment's folder, or what is named itself."""
    return python_in(path) if path.is_dir() else path


def _records(env: Mapping[str, str]) -> dict[str, str]:
    path = state_file(env)
    try:
        records = json.loads(read_file(path))["trusted"] if path else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {str(path): str(mark) for path, mark in records.items()} if isinstance(records, dict) else {}


def _real(python: Path) -> Path:
    """The path with links in its folders resolved, but not that of the Python itself, which identifies the environment."""
    path = Path.cwd() / python
    return Path(os.path.realpath(path.parent)) / path.name


def _token(python: Path) -> str:
    try:
        return read_file(_real(python).with_name(TOKEN)).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _fingerprint(python: Path) -> str:
    """A digest of the Python, its pyvenv.cfg and the token."""
    path = _real(python)
    try:
        if stat.S_ISLNK(path.lstat().st_mode):
            own = str(path.readlink()).encode()
        else:
            own = hashlib.sha256(read_file(path)).digest() if path.stat().st_size < LARGE else b"large"
    except OSError:
        return ""
    try:
        about = read_file(path.parent.parent / "pyvenv.cfg")
    except OSError:
        about = b""
    parts = (own, about, _token(python).encode())
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _inside(python: Path, project: Path) -> bool:
    """As written, or with links resolved: a link that leads out of a project may have come with it."""
    path = Path(os.path.normpath(Path.cwd() / python))
    return path.is_relative_to(project) or _real(python).is_relative_to(project)


def _projects(folder: Path) -> Iterator[Path]:
    """A folder and the repository it is in, as named and with links resolved."""
    for path in {Path(os.path.normpath(Path.cwd() / folder)), Path(os.path.realpath(folder))} - {Path("/")}:
        yield next((above for above in (path, *path.parents) if (above / ".git").exists()), path)


def _tracked(python: Path) -> bool:
    """Whether git keeps files of the environment: they came, or will change, with the repository."""
    prefix = _real(python).parent.parent
    for above in prefix.parents:
        git = above / ".git"
        if not git.exists():
            continue
        try:
            if git.is_file():  # of a worktree
                git = above / read_file(git).decode("utf-8").removeprefix("gitdir:").strip()
            return f"{prefix.relative_to(above).as_posix()}/".encode() in read_file(git / "index")
        except (OSError, UnicodeDecodeError):
            return False
    return False
