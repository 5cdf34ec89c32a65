"""The rows that optimizer steps of a run read, as file and line: asked of the engine, which prepares its rows once more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import ftdsl
from ftdsl.record import frozen
from ftdsl.session import open_regular, read_json

SPEC, DATA = "stage.json", "data.json"
RUNTIME = Path(ftdsl.__file__).parent / "runtime"
_PACKAGES = ("orjson", "numpy", "xxhash")
SECONDS = 3600
"""Rows are tokenised anew where the engine has not kept them."""


class NoRowsError(Exception):
    """Rows cannot be named; a sentence."""


@frozen
class BatchRow:
    """A row of a step. where: `data/a.jsonl:212` from the recipe's folder, where it was read; data: the folder of the data
    stage that read it, "" for a file that the engine reads itself; hash: of its content, "" where it is not known; text: the
    row as JSON.
    """

    where: str
    data: str
    hash: str
    text: str
    steps: tuple[int, ...]


def rows_of_steps(
    run: Path, folder: str, steps: Sequence[int], program: str, python: Path, env: Mapping[str, str]
) -> list[BatchRow]:
    """Rows of the steps, those of most steps first. run: the run folder; folder: the stage's. program: of the runtime, that
    its engine has for this (`Engine.step_rows`); python: the engine's.

    Raises: NoRowsError.
    """
    answer = _answer_of([str(python), str(RUNTIME / program), f"{folder}/{SPEC}", *map(str, steps)], run, env)
    files = [_seen_from_run(run, folder, str(name)) for name in answer["files"]]
    by_row: dict[tuple[int, int], list[int]] = defaultdict(list)
    for step, rows in answer["steps"].items():
        for file, row in rows:
            by_row[file, row].append(int(step))
    batch_rows = []
    for number, file in enumerate(files):
        rows = sorted(row for own, row in by_row if own == number)
        if rows:
            stage = PurePosixPath(file).parent.as_posix()
            reader = _of_data_stage if (run / stage / DATA).is_file() else _of_file
            for row, (where, mark, text) in reader(run, file, rows, python, env).items():
                data = stage if reader is _of_data_stage else ""
                batch_rows.append(BatchRow(where, data, mark, text, tuple(by_row[number, row])))
    return sorted(batch_rows, key=lambda row: (-len(row.steps), row.where))


def _seen_from_run(run: Path, folder: str, name: str) -> str:
    """A file of dataset_info.json, which is relative to the stage's folder (`dataset_dir`)."""
    return os.path.normpath(f"{folder}/{name}") if (run / folder / name).exists() else name


Origins = dict[int, tuple[str, str, str]]
"""By row of a file: where the row came from, the hash of its content, the row as JSON."""


def _of_data_stage(run: Path, file: str, rows: Sequence[int], python: Path, env: Mapping[str, str]) -> Origins:
    """Where rows of a data stage's part came from; where that is not there any more, the part's own line."""
    path = PurePosixPath(file)
    arguments = ["-P", "-m", "ftdsl.runtime.data", "origins", f"{path.parent}/{DATA}", path.stem, *map(str, rows)]
    with tempfile.TemporaryDirectory() as folder:
        here = all(find_spec(name) for name in _PACKAGES)
        if not here:  # the engine's Python has them; it must see this package, and nothing else of this Python
            (Path(folder) / "ftdsl").symlink_to(Path(ftdsl.__file__).parent)
        more = {} if here else {"PYTHONPATH": folder}
        answer = _answer_of([sys.executable if here else str(python), *arguments], run, {**env, **more})
    return {
        row["row"]: (
            str(row["where"] or f"{file}:{row['row'] + 1}").removeprefix("inputs/"),
            str(row["hash"]),
            json.dumps(row["text"], ensure_ascii=False),
        )
        for row in answer
    }


def _of_file(run: Path, file: str, rows: Sequence[int], python: Path, env: Mapping[str, str]) -> Origins:
    """Rows of a file that the engine reads itself: lines that are not blank, or numbers of rows."""
    name = file.removeprefix("inputs/")
    origins: Origins = {row: (f"{name}: row {row + 1}", "", "") for row in rows}
    if not file.endswith(".jsonl") or not (run / file).is_file():
        return origins
    wanted, number = set(rows), -1
    with open_regular(run / file) as lines:
        for line, content in enumerate(lines, 1):
            number += bool(content.strip())
            if number in wanted and content.strip():
                origins[number] = (f"{name}:{line}", "", content.decode("utf-8", "replace").strip())
    return origins


def _answer_of(command: list[str], run: Path, env: Mapping[str, str]) -> Any:
    """The last line that a program prints, as JSON. Raises: NoRowsError."""
    try:
        done = subprocess.run(
            command,
            cwd=run,
            env=dict(env),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
        if done.returncode == 0:
            return json.loads(done.stdout.splitlines()[-1])
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
        raise NoRowsError(f"the rows of a step cannot be asked for: {error}") from None
    errors = [line for line in done.stderr.splitlines() if line.strip()]
    reasons = [line.removeprefix("error: ") for line in errors if line.startswith("error: ")]
    raise NoRowsError((reasons or errors or ["the engine gave no reason"])[-1])


def stage_of(run: Path, folder: str) -> None:
    """Raises: NoRowsError for a folder that is no training of an engine that can be asked."""
    try:
        kind = read_json(run / folder / SPEC)["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        raise NoRowsError(f"{folder} is no stage whose rows can be followed") from None
    if kind != "train":
        raise NoRowsError(f"{folder} does not train")
