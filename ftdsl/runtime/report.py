"""What every stage of the engine leaves behind: events in metrics.jsonl, a result.json, and faults a person can mend.

The shape of both files is `events.py`'s.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from . import events


class StageError(Exception):
    """What a person must mend: a sentence, the recipe's `keys` it is about (the first that is written counts), a line of help."""

    def __init__(self, message: str, *keys: str, help: str = "", code: str = "", status: int = 1) -> None:
        super().__init__(message)
        self.message, self.keys, self.help, self.code, self.status = message, keys, help, code, status

    def fields(self) -> dict[str, Any]:
        """As an event carries it."""
        return {"message": self.message, "keys": list(self.keys), "help": self.help, "code": self.code}


class Log:
    """metrics.jsonl of a stage; only the first rank writes (asked anew each time: Ray's workers get a copy of this)."""

    def __init__(self, stage: str) -> None:
        self.path = (Path(stage) / events.METRICS).absolute()
        self.lost = 0

    @property
    def first(self) -> bool:
        return os.environ.get("RANK", "0") == "0"

    def event(self, kind: str, /, **fields: Any) -> None:
        """Append an event. One that cannot be written (a full disk) is lost, and ends nothing: the log says so once."""
        if not self.first:
            return
        try:
            events.append(self.path, kind, **fields)
        except OSError as error:
            self.lost += 1
            if self.lost == 1:
                print(f"warning: {self.path.name} cannot be written: {error}", file=sys.stderr, flush=True)

    def warn(self, fault: StageError) -> None:
        """Reported, and no more than that."""
        if self.first:
            print(f"warning: {fault.message}", file=sys.stderr, flush=True)
            self.event("warning", **fault.fields())


def lacks(module: str, title: str, variable: str = "FT_PYTHON") -> bool:
    """Whether this Python cannot import a program, which is printed. variable: the environment variable that names another."""
    try:
        import_module(module)
    except ImportError as error:
        print(f"error: {sys.executable} has no {title} ({error}); set {variable}", file=sys.stderr)
        return True
    return False


def carried_out(work: Callable[[Log], int], log: Log, *, last: bool = True) -> int:
    """The exit status of a stage's work. What ends it is an event: a fault as it is, else the exception's name and text.
    last: no other command of the stage follows one that ends well.

    The traceback goes to the log alone.
    """
    try:
        status = work(log)
    except StageError as fault:
        print(f"error: {fault.message}" + (f"\n  = help: {fault.help}" if fault.help else ""), file=sys.stderr)
        log.event("end", ok=False, **fault.fields())
        return fault.status
    except Exception as error:
        traceback.print_exc()
        log.event("end", ok=False, error=_chain(error))
        return 1
    if last:
        log.event("end", ok=status == 0)
    return status


def _chain(error: BaseException | None) -> list[str]:
    """An exception's text, then those of what caused it: the engine often hides the real one behind its own."""
    texts: list[str] = []
    while error is not None and len(texts) < 5:
        texts.append(f"{type(error).__name__}: {error}"[:2000] + _innermost(error))
        error = error.__cause__ or error.__context__
    return texts


def _innermost(error: BaseException) -> str:
    """` [llamafactory/data/converter.py datasets/formatting/formatting.py]`: the last files it came through, which tell rows
    that lack a column from a dictionary's slip.
    """
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    files = dict.fromkeys("/".join(Path(frame.filename).parts[-3:]) for frame in frames)
    return f" [{' '.join(files)}]" if files else ""


def save_result(stage: str, result: dict[str, Any], *, smoke: bool = False) -> None:
    """result.json. What a smoke run made is marked as such."""
    events.save_result(stage, {**result, "smoke": True} if smoke else result)


def mark(folder: Path) -> None:
    """A model or adapter of a smoke run is marked in its own folder, wherever somebody carries it."""
    text = "Made by `ftc run --smoke`: a toy trained for a few steps, to try a recipe. It knows nothing.\n"
    folder.joinpath(MARK).write_text(text, encoding="utf-8")


MARK = "SMOKE_TEST.txt"
"""The file in every model and adapter of a smoke run; ftdsl/recipe/rules knows it too."""


def marked(path: str) -> bool:
    """Whether a smoke run made a path: by a mark in its folder or above, or by its own config.json."""
    folder = Path(path)
    if any((parent / MARK).exists() for parent in (folder, *list(folder.parents)[:3])):
        return True
    try:
        return bool(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("ftdsl_smoke"))
    except (OSError, ValueError, AttributeError):
        return False
