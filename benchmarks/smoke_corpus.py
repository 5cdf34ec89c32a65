"""`ftc run --smoke` on every recipe of tests/corpus and every example: what went through, and how long it took.

    python benchmarks/smoke_corpus.py [PART-OF-A-NAME …]

Data that the recipes name is not there, so a smoke run makes rows up. Recipes that a check refuses are told apart from
those that broke while they ran. The table in docs/smoke.md is kept by this: rows of the recipes that ran are written anew.
Needs the engine; all of it takes about 40 minutes on two cores.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/smoke.md"
HEAD = "| recipe | ends | exit | seconds | stages | replaced | says |"
FOLDERS = ("tests/corpus", "examples")
INCLUDED = ("common", "profiles")
ROOMIER = {
    "27_asft": "sft.parallel.strategy=zero3",
    "44_mod_passthrough": "sft.hardware.gpu=h200",
}
"""LLaMA-Factory's examples that do not fit the cards they name; a check says so (FT701), and here they get what fits."""

TOKENS = '"<svg>": "opens a picture made of lines"\n"</svg>": "closes it"\n'
"""What 45_new_tokens.ft has beside it."""


def smoke(recipe: Path, folder: Path) -> dict[str, Any]:
    """The document of one recipe. Its status is 1 with errors of a check, too."""
    command = [sys.executable, "-m", "ftdsl.cli.main", "run", "--smoke", "--json", recipe.name]
    if recipe.stem in ROOMIER:
        command += ["--set", ROOMIER[recipe.stem]]
    if engine := os.environ.get("FTC_ENGINE_PYTHON"):
        command += ["--engine-python", engine]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if not done.stdout:
        return {"status": done.returncode, "seconds": 0, "stages": [], "problems": [], "message": done.stderr[-300:]}
    found: dict[str, Any] = json.loads(done.stdout)["recipes"][0]
    return found


def why(found: dict[str, Any]) -> str:
    """The errors of a recipe, or what its gates and stages said beside their numbers."""
    errors = [
        f"{one['code']} at line {one['line']}: {one['message']}"
        for one in found["problems"]
        if one["severity"] == "error"
    ]
    if found["status"]:
        return "; ".join(dict.fromkeys(errors)) or str(found.get("message", ""))
    notes = (note for stage in found["stages"] for note in stage["notes"])
    return "; ".join(dict.fromkeys(notes))


def verdict(found: dict[str, Any]) -> str:
    if found["status"] == 0:
        return "ok"
    return "FAILED" if found["stages"] else "refused"


def recipes(wanted: list[str]) -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).glob("*.ft")):
            if path.stem not in INCLUDED and (not wanted or any(part in path.name for part in wanted)):
                yield path


def row(recipe: Path, found: dict[str, Any]) -> str:
    """A line of the table."""
    name = f"`{recipe.parent.name}/{recipe.stem}`" + (f" [{ROOMIER[recipe.stem]}]" if recipe.stem in ROOMIER else "")
    counts = f"{found['seconds']:.0f} | {len(found['stages'])} | {len(found.get('replaced', ()))}"
    return f"| {name} | {verdict(found)} | {found['status']} | {counts} | {why(found).replace('|', '/')} |"


def keep(new: str) -> None:
    """A row into the page, in place of the one the recipe had."""
    prose, _, table = PAGE.read_text(encoding="utf-8").partition(HEAD)
    old = [line for line in table.splitlines() if line.startswith("| `")]
    rows = {line.split("`")[1]: line for line in (*old, new)}
    body = "\n".join(rows[name] for name in sorted(rows))
    PAGE.write_text(f"{prose}{HEAD}\n|---|---|---|---|---|---|---|\n{body}\n", encoding="utf-8")


def main(wanted: list[str]) -> int:
    """Exit 1 when a recipe broke while it ran."""
    counts = {"ok": 0, "refused": 0, "FAILED": 0}
    with tempfile.TemporaryDirectory(prefix="ftc-smoke-") as made:
        for folder in FOLDERS:
            shutil.copytree(ROOT / folder, Path(made) / folder)
        (Path(made) / "tests/corpus/tokens_cfg.yaml").write_text(TOKENS, encoding="utf-8")
        for recipe in recipes(wanted):
            place = Path(made) / recipe.parent.relative_to(ROOT)
            found = smoke(recipe, place)
            counts[verdict(found)] += 1
            print(row(recipe, found), flush=True)
            keep(row(recipe, found))
            if found["status"] == 0:
                shutil.rmtree(place / "runs", ignore_errors=True)
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    return int(counts["FAILED"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
