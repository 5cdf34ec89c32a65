"""In the browser: a recipe to what `ftc check --json`, `ftc plan` and `ftc compile` give, all in memory."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import types
from concurrent import futures
from pathlib import Path
from typing import Any

WORK = Path("/work")


class Serial(futures.Executor):
    """Does each call when it is submitted."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> futures.Future[Any]:
        future: futures.Future[Any] = futures.Future()
        try:
            future.set_result(function(*arguments, **options))
        except Exception as error:
            future.set_exception(error)
        return future


def prepare() -> None:
    """A folder for recipes. pydantic has no build for this Python: the second validation before compiling is left out."""
    validate = types.ModuleType("ftdsl.recipe.validate")
    validate.validate = lambda *_, **__: True  # type: ignore[attr-defined]
    sys.modules["ftdsl.recipe.validate"] = validate
    futures.ThreadPoolExecutor = Serial  # type: ignore[misc,assignment] # there are no threads here
    from ftdsl.plan import machine

    machine.MEMINFO = machine.CGROUP = Path("/none")  # the browser's memory is no machine to train on
    WORK.mkdir(exist_ok=True)
    os.chdir(WORK)


def command(*arguments: str) -> tuple[int, str, str]:
    """`ftc …`: its exit status, stdout and stderr."""
    from ftdsl.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(list(arguments))
    return status, out.getvalue(), err.getvalue()


def answer(recipe: str) -> str:
    """JSON: `messages` (as `ftc check` prints them), `diagnostics`, `plan`, and `files`: the artifacts by name."""
    for leftover in (WORK / "build", WORK / "recipe.ft", WORK / "recipe.lock"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
    (WORK / "recipe.ft").write_text(recipe, encoding="utf-8")
    status, out, _ = command("check", "recipe.ft", "--no-data", "--json")
    _, printed, messages = command("check", "recipe.ft", "--no-data")
    result = {
        "ok": status == 0,
        "diagnostics": json.loads(out)["diagnostics"],
        "messages": printed + messages,
        "plan": "",
        "files": {},
    }
    if status == 0:
        _, plan, said = command("plan", "recipe.ft", "--no-data")
        result["plan"] = plan + said
        status, _, said = command("compile", "recipe.ft", "--no-data", "-o", "build")
        if status:
            result["messages"] += said
        result["files"] = {
            path.relative_to(WORK / "build").as_posix(): path.read_text(encoding="utf-8", errors="replace")
            for path in sorted((WORK / "build").rglob("*"))
            if path.is_file() and "runtime" not in path.parts and path.stat().st_size < 200_000
        }
    return json.dumps(result)
