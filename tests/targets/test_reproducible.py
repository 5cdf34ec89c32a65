"""The same recipe gives the same bytes: in other processes, with other hash seeds, and nothing of this process is in them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import ALPACA, COMPILED, CORPUS, ftc_process

EVERY = """
let x = "a b"
env { TOKEN = secret("MY_TOKEN"), PLAIN = x }
data rows { source = file("rows.jsonl", limit = 3), tokens = 1 .. 4Ki, holdout { eval = 25% }, languages = [en, de] }
shell one { run = "echo {x} {rows.path}", outputs = ["a"], inputs = [file("rows.jsonl")] }
shell two { after = one, run in ["true", "echo {x}"] }
sft { model = hf("Qwen/Qwen3-0.6B"), data = rows, duration = 1 epoch, lora { targets = [q_proj] }, hardware { nodes = 1 .. 2 } }
"""


def built(folder: Path, name: str, seed: str, *flags: str) -> dict[str, bytes]:
    done = ftc_process("compile", name, "-o", f"out{seed}", *flags, cwd=folder, PYTHONHASHSEED=seed)
    if done.returncode:
        return {"stderr": done.stderr.encode()}
    out = folder / f"out{seed}"
    files = {
        p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file() and not p.is_symlink()
    }
    return {name: content for name, content in files.items() if not name.startswith(("runtime/", "inputs/"))}


@pytest.mark.parametrize(
    "path", [*COMPILED, *CORPUS, None], ids=lambda path: path.stem if path else "every kind of value"
)
def test_a_build_is_the_same_in_another_process(path: Path | None, tmp_path: Path) -> None:
    if path is None:
        (tmp_path / "r.ft").write_text(EVERY, encoding="utf-8")
    else:
        for other in path.parent.iterdir():
            if other.is_file():
                shutil.copy(other, tmp_path / other.name)
        shutil.copy(path, tmp_path / "r.ft")
    (tmp_path / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    first, second = (built(tmp_path, "r.ft", seed, "--no-data") for seed in ("1", "2"))
    assert first == second
    for name, content in first.items():
        assert not re.search(rb"object at 0x|\b0x[0-9a-f]{8,}|Secret\(|Range\(|Term\(|StageRef\(|Amount\(", content), (
            name
        )


def test_values_are_shown_as_a_recipe_has_them(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    (tmp_path / "r.ft").write_text(EVERY, encoding="utf-8")
    manifest = json.loads(built(tmp_path, "r.ft", "1")["manifest.json"])
    values = {
        stage["key"]: {key: value["value"] for key, value in stage["values"].items()} for stage in manifest["stages"]
    }
    assert values["one"]["run"] == "echo {x} {rows.path}"
    assert values["one"]["env.TOKEN"] == 'secret("MY_TOKEN")'
    assert values["rows"]["tokens"] == "1 .. 4096"


def test_a_copy_means_the_same(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    for name in ("a.ft", "b.ft"):
        (tmp_path / name).write_text(EVERY, encoding="utf-8")
    done = ftc_process("diff", "a.ft", "b.ft", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    for verb in ("explain", "plan"):
        assert "object at" not in ftc_process(verb, "a.ft", cwd=tmp_path).stdout
