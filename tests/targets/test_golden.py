"""Artifacts of the examples, as committed: a change of what is compiled is a change to be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import compile_recipe
from ftdsl.session import Session
from ftdsl.targets.write import write
from tests.conftest import COMPILED, ROOT, examples_in, ftc

GOLDEN = ROOT / "tests" / "golden"


VARIANTS = [(path, "") for path in COMPILED] + [
    (ROOT / "examples" / "handbook_14b.ft", profile) for profile in ("accelerate", "deepspeed", "three_d")
]
"""Recipes, and profiles of them."""


def place(recipe: Path, profile: str) -> Path:
    return GOLDEN / (f"{recipe.stem}.{profile}" if profile else recipe.stem)


@cache
def examples() -> Path:
    """A copy of the examples as they are committed: locks that somebody's `ftc compile` left beside them decide nothing, and
    nothing is written beside them."""
    folder = TemporaryDirectory(prefix="ftc-golden-")
    _FOLDERS.append(folder)
    return examples_in(Path(folder.name))


_FOLDERS: list[TemporaryDirectory[str]] = []


@cache
def artifacts(recipe: Path, profile: str = "") -> Mapping[str, bytes]:
    """What a recipe compiles to, without copies of runtime modules and the manifest, which lists their hashes."""
    session = Session()
    options = Options(profiles=(profile,)) if profile else Options()
    compiled = compile_recipe(examples() / recipe.name, options, session)
    assert compiled is not None, [one.message for one in session.sink]
    return {n: c for n, c in compiled.files.items() if not n.startswith("runtime/") and n != "manifest.json"}


@pytest.mark.parametrize(("recipe", "profile"), VARIANTS, ids=lambda part: getattr(part, "stem", part))
def test_artifacts_are_the_committed_ones(recipe: Path, profile: str) -> None:
    """After a meant change: make golden, and read the difference."""
    found = {name: content.decode() for name, content in artifacts(recipe, profile).items()}
    folder = place(recipe, profile)
    wanted = {p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8") for p in folder.rglob("*") if p.is_file()}
    assert found == wanted


COMPILES = """
import sys
from pathlib import Path
from ftdsl.cli.main import main
out, names = sys.argv[1], sys.argv[2:]
assert names
for name in names:
    status = main(["compile", name, "-o", f"{out}/{Path(name).stem}"])
    assert status == 0, name
"""


@pytest.mark.slow
def test_the_same_bytes_from_anywhere(tmp_path: Path) -> None:
    """Another folder, HOME, time zone, locale and hash seed: nothing of it shows."""
    outs = []
    environments = (
        {"PYTHONHASHSEED": "1", "TZ": "UTC"},
        {"PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "HOME": str(tmp_path), "LC_ALL": "C", "USER": "somebody"},
    )
    for at, env in enumerate(environments):
        out = tmp_path / f"out{at}"
        folder = examples_in(tmp_path / f"place{at}")
        cwd, start = (folder.parent, Path("examples")) if at == 0 else (tmp_path, folder)
        names = [str(start / recipe.name) for recipe in COMPILED]
        command = [sys.executable, "-c", COMPILES, str(out), *names]
        done = subprocess.run(
            command, cwd=cwd, env={**os.environ, **env}, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stderr
        files = {
            p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file() and not p.is_symlink()
        }
        files |= {path.name: path.read_bytes() for path in folder.glob("*.lock")}
        outs.append({name: content for name, content in files.items() if "/inputs/" not in name})
    assert {path.stem for path in COMPILED} == {name.split("/")[0] for name in outs[0] if "/" in name}
    assert len([name for name in outs[0] if name.endswith(".lock")]) == len(COMPILED)
    assert outs[0] == outs[1]


def test_a_manifest_lists_what_was_written(tmp_path: Path) -> None:
    recipe = examples_in(tmp_path) / "quickstart.ft"
    done = ftc("compile", str(recipe), "-o", str(tmp_path / "b"), cwd=tmp_path)
    assert done.returncode == 0
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text(encoding="utf-8"))
    on_disk = {p.relative_to(tmp_path / "b").as_posix() for p in (tmp_path / "b").rglob("*") if p.is_file()}
    listed = set(manifest["artifacts"]) | {"manifest.json"}
    assert {name for name in on_disk if not name.startswith("inputs/")} == listed
    assert manifest["stages"][2]["values"]["optim.lr"] == {"value": "0.003", "origin": "quickstart.ft:29"}


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
    assert b"here" in first
    assert ftc("compile", "r.ft", "--frozen", cwd=tmp_path, PLACE="elsewhere").returncode == 0
    assert (tmp_path / "build" / "r" / "10-sft" / "launch.sh").read_bytes() == first, "env() is read from the lock"
    (tmp_path / "rows.jsonl").write_text(rows * 2, encoding="utf-8")
    done = ftc("compile", "r.ft", "--frozen", cwd=tmp_path, PLACE="here")
    assert done.returncode == 1
    assert "FT049" in done.stderr
    assert "rows.jsonl" in done.stderr


@pytest.mark.slow
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
