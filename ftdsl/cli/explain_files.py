"""`ftc explain FILE [STAGE]`: the compiled files of a stage, line by line, as text or JSON."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from ftdsl.cli.common import color
from ftdsl.engines.jobs import Job
from ftdsl.engines.lower import reasons
from ftdsl.pipeline import Checked
from ftdsl.plan.plan import Plan
from ftdsl.printable import one_line, printable
from ftdsl.targets.explained import Because, File, Line, files

LEFT = 58
"""Width of the column for a file's line, less in a narrow terminal; the reason of a longer line is below it."""

WIDE = 160
"""The maximum width, and the width for a pipe."""


def explain_files(checked: Checked, selection: str, *, json_too: bool) -> int:
    """Print the files of a stage, one file (`sft/ds_config.json`), or all. Exit 2 if there is no such stage or file."""
    assert checked.plan is not None
    plan = checked.plan
    selected = [(job, wanted) for job in checked.jobs if (wanted := list(_selected(plan, job, selection)))]
    if not selected:
        names = ", ".join(dict.fromkeys(job.key for job in checked.jobs))
        print(f"error: there is no stage or file `{selection}`; stages: {names}", file=sys.stderr)
        return 2
    if json_too:
        stages = [_as_json(job, wanted) for job, wanted in selected]
        print(json.dumps({"name": plan.recipe.name, "stages": stages}, indent=1, ensure_ascii=False))
    else:
        print("\n".join(line for job, wanted in selected for line in _stage(plan, job, wanted)).strip("\n"))
    return 0


def _selected(plan: Plan, job: Job, selection: str) -> Iterator[File]:
    stage, _, name = selection.partition("/")
    if selection and stage not in (job.key, job.folder, job.key.partition("@")[0]):
        return
    for file in files(plan, job, reasons(plan, job)):
        if not name or file.path == f"{job.folder}/{name}":
            yield file


def _as_json(job: Job, wanted: list[File]) -> dict[str, Any]:
    lines = [
        {
            "path": file.path,
            "about": file.about,
            "lines": [
                {"line": line.text.strip(), "path": line.path, **line.because.parts()}
                for line in file.lines
                if line.because is not None
            ],
        }
        for file in wanted
    ]
    return {
        "stage": job.key,
        "folder": job.folder,
        "where": job.location,
        "equations": list(job.header),
        "files": lines,
    }


def _stage(plan: Plan, job: Job, wanted: list[File]) -> Iterator[str]:
    bold, dim, end = ("\x1b[1m", "\x1b[2m", "\x1b[0m") if color(sys.stdout) else ("", "", "")
    recipe = job.location.rpartition(":")[0]
    width = min(max(shutil.get_terminal_size().columns, 80), WIDE) if sys.stdout.isatty() else WIDE
    yield f"{bold}{one_line(job.key)}{end}  {one_line(job.title)}  ({one_line(job.location)})"
    yield from (f"  {one_line(line)}" for line in job.header)
    for file in wanted:
        yield ""
        yield f"{bold}{one_line(file.path)}{end}" + (f"  {file.about}" if file.about else "")
        for line in file.lines:
            yield from _line(line, recipe, width, dim, end)
    yield ""


def _line(line: Line, recipe: str, width: int, dim: str, end: str) -> Iterator[str]:
    """What stands in the file on the left, why on the right."""
    if line.because is None or not (why := describe(line.because, recipe)):
        yield f"  {dim if line.because is None else ''}{printable(line.text)}{end if line.because is None else ''}"
        return
    left = LEFT if width >= 120 else 40
    reason = textwrap.wrap(printable(why), width - left - 2, break_on_hyphens=False, break_long_words=False)
    if len(line.text) > left - 2:
        yield f"  {printable(line.text)}"
    else:
        yield f"  {printable(line.text):<{left}}{dim}{reason.pop(0)}{end}"
    yield from (f"  {'':<{left}}{dim}{rest}{end}" for rest in reason)


def describe(because: Because, recipe: str) -> str:
    """`lora.alpha = 2 * rank, line 19`; for a choice or a default also the reason."""
    if not because.key:
        return because.why
    if not because.value:
        return f"{because.key} is not set: {because.why}" if because.why else f"{because.key} is not set"
    equals = because.value if because.value.startswith("{ ") else f"= {because.value}"
    text = f"{because.key} {equals}"
    if because.layer == "default":
        return f"{text}, the default" + (f"; {because.why}" if because.why else "")
    if because.layer == "auto":
        return f"{text}, chosen" + (f": {because.why}" if because.why else "")
    where = because.where.replace(f"{recipe}:", "line ")
    return f"{text}, {where}"
