"""Runs the data stage's own code on a few files, as `python -m runtime.data` would."""

from __future__ import annotations

import contextlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftdsl.runtime.data.preparing import prepare

CHAT = {"role": "from", "content": "value", "user": "human", "assistant": "gpt", "tool": "observation",
        "call": "function_call", "system": "system"}  # fmt: skip
OPENAI = {"role": "role", "content": "content", "user": "user", "assistant": "assistant", "tool": "tool",
          "call": "function_call", "system": "system"}  # fmt: skip
ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}


@dataclass
class Done:
    """What a data stage printed and left."""

    returncode: int
    stdout: str
    stderr: str
    folder: Path

    def rows(self, part: str = "train") -> list[Any]:
        return [json.loads(line) for line in (self.folder / f"{part}.jsonl").read_bytes().splitlines()]

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "report.json").read_bytes())
        return found

    @property
    def dropped(self) -> list[Any]:
        return self.rows("dropped")


def run(folder: Path, files: dict[str, str | bytes], **spec: Any) -> Done:
    """`files` are written, then read in this order unless the spec names sources."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    whole = {
        "stage": "10-d", "where": "r.ft:1", "format": "alpaca", "columns": ALPACA, "roles": {}, "drop": ["bad_roles"],
        "dedupe": "none", "seed": 42, "holdout": {}, "sources": [{"path": name, "where": "r.ft:2"} for name in files],
    } | spec  # fmt: skip
    out, err, home = io.StringIO(), io.StringIO(), Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = prepare(whole)
    finally:
        os.chdir(home)
    return Done(code, out.getvalue(), err.getvalue(), folder / "10-d")


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def numbered(count: int, start: int = 0) -> list[dict[str, str]]:
    return [{"instruction": f"q{n}", "input": "", "output": f"a{n}"} for n in range(start, start + count)]
