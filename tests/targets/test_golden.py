"""Artifacts of the examples, as committed: a change of what is compiled is a change to be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import compile_recipe
from ftdsl.session import Session
from ftdsl.targets.write import write
from tests.conftest import EXAMPLES, ROOT, ftc

GOLDEN = ROOT / "tests" / "golden"


VARIANTS = [(path, "") for path in EXAMPLES] + [
    (ROOT / "examples" / "handbook_14b.ft", profile) for profile in ("accelerate", "deepspeed", "three_d")
]
"""Recipes, and profiles of them."""


def place(recipe: Path, profile: str) -> Path:
    return GOLDEN / (f"{recipe.stem}.{profile}" if profile else recipe.stem)


def artifacts(recipe: Path, profile: str = "") -> dict[str, bytes]:
    """What a recipe compiles to, without copies of runtime modules and the manifest, which lists their hashes."""
    session = Session()
    options = Options(profiles=(profile,)) if profile else Options()
    compiled = compile_recipe(recipe, options, session)
    assert compiled is not None, [one.message for one in session.sink]
    return {n: c for n, c in compiled.files.items() if not n.startswith("runtime/") and n != "manifest.json"}


@pytest.mark.parametrize(("recipe", "profile"), VARIANTS, ids=lambda part: getattr(part, "stem", part))
def test_artifacts_are_the_committed_ones(recipe: Path, profile: str) -> None:
    """After a meant change: make golden, and read the difference."""
    found = {name: content.decode() for name, content in artifacts(recipe, profile).items()}
    folder = place(recipe, profile)
    wanted = {p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8") for p in folder.rglob("*") if p.is_file()}
    assert found == wanted


def test_the_same_bytes_from_anywhere(tmp_path: Path) -> None:
    """Another folder, HOME, time zone, locale and hash seed: nothing of it shows."""
    outs = []
    for at, env in enumerate(
        (
            {"PYTHONHASHSEED": "1", "TZ": "UTC"},
            {"PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "HOME": str(tmp_path), "LC_ALL": "C", "USER": "somebody"},
        )
    ):
        out = tmp_path / f"out{at}"
        for recipe in EXAMPLES:
            cwd, name = (ROOT, f"examples/{recipe.name}") if at == 0 else (tmp_path, str(recipe))
            done = ftc("compile", name, "-o", str(out / recipe.stem), cwd=cwd, **env)
            assert done.returncode == 0, done.stderr
        files = {
            p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file() and not p.is_symlink()
        }
        outs.append({name: content for name, content in files.items() if "/inputs/" not in name})
    assert outs[0] == outs[1]
    for recipe in EXAMPLES:
        recipe.with_suffix(".lock").unlink(missing_ok=True)


def test_a_manifest_lists_what_was_written(tmp_path: Path) -> None:
    done = ftc("compile", str(ROOT / "examples" / "quickstart.ft"), "-o", str(tmp_path / "b"), cwd=tmp_path)
    assert done.returncode == 0
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text(encoding="utf-8"))
    on_disk = {p.relative_to(tmp_path / "b").as_posix() for p in (tmp_path / "b").rglob("*") if p.is_file()}
    listed = set(manifest["artifacts"]) | {"manifest.json"}
    assert {name for name in on_disk if not name.startswith("inputs/")} == listed
    assert manifest["stages"][2]["values"]["optim.lr"] == {"value": "0.003", "origin": "quickstart.ft:29"}
    (ROOT / "examples" / "quickstart.lock").unlink(missing_ok=True)


def test_compile_removes_only_its_own(tmp_path: Path) -> None:
    session = Session()
    folder = tmp_path / "b"
    assert write(folder, {"a/one.txt": b"1", "two.txt": b"2", "manifest.json": b'{"artifacts": ["a/one.txt", "two.txt"]}'},
                 tmp_path, session)  # fmt: skip
    (folder / "mine.txt").write_text("mine", encoding="utf-8")
    assert write(folder, {"two.txt": b"22", "manifest.json": b'{"artifacts": ["two.txt"]}'}, tmp_path, session)
    assert not (folder / "a").exists()
    assert (folder / "mine.txt").read_text(encoding="utf-8") == "mine"
    assert (folder / "two.txt").read_bytes() == b"22"
    assert not write(folder, {"mine.txt": b"x", "manifest.json": b"{}"}, tmp_path, session), "not ours to overwrite"
    assert (folder / "mine.txt").read_text(encoding="utf-8") == "mine"
    assert session.sink.failed


def test_frozen_refuses_to_differ(tmp_path: Path) -> None:
    recipe = tmp_path / "r.ft"
    rows = '{"instruction": "q", "output": "a"}\n'
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    text = (
        'env { WHERE = env("PLACE") }\nhardware { gpu = none }\n'
        'sft {\n  model = hf("Qwen/Qwen3-0.6B")\n  data = file("rows.jsonl")\n}\n'
    )
    recipe.write_text(text, encoding="utf-8")
    assert ftc("compile", "r.ft", "--frozen", cwd=tmp_path, PLACE="here").returncode == 1, "there is no lock yet"
    assert ftc("compile", "r.ft", cwd=tmp_path, PLACE="here").returncode == 0
    first = (tmp_path / "build" / "r" / "10-sft" / "launch.sh").read_bytes()
    assert ftc("compile", "r.ft", "--frozen", cwd=tmp_path, PLACE="elsewhere").returncode == 0
    assert (tmp_path / "build" / "r" / "10-sft" / "launch.sh").read_bytes() == first, "env() is read from the lock"
    (tmp_path / "rows.jsonl").write_text(rows * 2, encoding="utf-8")
    done = ftc("compile", "r.ft", "--frozen", cwd=tmp_path, PLACE="here")
    assert done.returncode == 1
    assert "FT049" in done.stderr
    assert "rows.jsonl" in done.stderr


def test_scripts_are_sound(tmp_path: Path) -> None:
    """bash -n and shellcheck over every script of every example."""
    scripts = []
    for recipe, profile in VARIANTS:
        for name, content in artifacts(recipe, profile).items():
            if name.endswith(".sh"):
                path = tmp_path / place(recipe, profile).name / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                scripts.append(str(path))
    assert len(scripts) > 20
    for script in scripts:
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0, script
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [str(shellcheck), *scripts], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stdout
