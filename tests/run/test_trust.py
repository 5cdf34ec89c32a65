"""Pythons that come with a repository: none is started unless ftc installed it there, or its user says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ALPACA, ftc

PLANTED = '#!/bin/sh\ntouch "{mark}"\nexec "{python}" "$@"\n'
RECIPE = (
    "hardware {{ gpu = none, count = 1 }}\n{engine}\n"
    'sft {{ model = hf("a/b"), data = file("rows.jsonl"), template = qwen3, lora {{}} }}\n'
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    (folder / ".git").mkdir(parents=True)
    (folder / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    (folder / "r.ft").write_text(RECIPE.format(engine=""), encoding="utf-8")
    return folder


def plant(python: Path) -> Path:
    """A Python that leaves a mark when it is started, in an environment that looks like an engine's: where the mark would be."""
    mark = python.parent / "STARTED"
    site = python.parent.parent / "lib" / "python3.11" / "site-packages" / "llamafactory-0.9.5.dist-info"
    site.mkdir(parents=True, exist_ok=True)
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(PLANTED.format(mark=mark, python=sys.executable), encoding="utf-8")
    python.chmod(0o755)
    return mark


def call(clone: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    home = clone.parent / "home"
    own = {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_DATA_HOME": str(home / "data"),
        "FTC_ENGINE_PYTHON": "",
        "PIP_NO_INDEX": "1",
    }
    return ftc(*arguments, cwd=clone, **(own | env))


VERBS = {
    "engine list": ("engine", "list"),
    "engine list --json": ("engine", "list", "--json"),
    "engine doctor": ("engine", "doctor"),
    "engine install": ("engine", "install", "llamafactory", "--cpu"),
    "run": ("run", "r.ft"),
    "run --smoke": ("run", "r.ft", "--smoke"),
    "check": ("check", "r.ft"),
    "plan": ("plan", "r.ft"),
    "compile": ("compile", "r.ft"),
    "explain": ("explain", "r.ft"),
    "diff": ("diff", "r.ft", "r.ft"),
    "graph": ("graph", "r.ft"),
    "fmt": ("fmt",),
    "upgrade": ("upgrade", "r.ft", "--to", "transformers==5.15"),
}


PLACES = ["here", "link", "recipe", "recipe above", "recipe linked"]
PAIRS = [(place, verb) for place in PLACES for verb in VERBS if verb != "engine install" or place in ("here", "link")]
"""Where nothing is planted in the engine's own folder, `engine install` would install one: gigabytes, and no part of this."""


@pytest.mark.parametrize(("place", "verb"), PAIRS)
@pytest.mark.slow
def test_no_verb_starts_a_planted_python(place: str, verb: str, clone: Path) -> None:
    outside = clone.parent / "outside"
    home = clone
    if place == "here":
        mark = plant(clone / ".engines" / "llamafactory" / "bin" / "python")
    elif place == "link":
        mark = plant(outside / "bin" / "python")
        (clone / ".engines").mkdir()
        (clone / ".engines" / "llamafactory").symlink_to(outside)
    elif place == "recipe linked":
        mark = plant(outside / "bin" / "python")
        (clone / "env").symlink_to(outside)
        (clone / "r.ft").write_text(
            RECIPE.format(engine='engine = llamafactory(python = "env/bin/python")'), encoding="utf-8"
        )
    else:
        mark = plant(clone / "env" / "bin" / "python")
        named = "../env/bin/python" if place == "recipe above" else "env/bin/python"
        home = clone / "recipes" if place == "recipe above" else clone
        home.mkdir(exist_ok=True)
        (home / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
        (home / "r.ft").write_text(RECIPE.format(engine=f'engine = llamafactory(python = "{named}")'), encoding="utf-8")
    done = call(home, *VERBS[verb])
    assert not mark.exists()
    assert "Traceback" not in done.stderr
    if verb.startswith("run"):
        assert done.returncode == 1
        assert "is not started: ftc did not install it; type: ftc engine trust" in done.stderr
    if place in ("here", "link") and verb.startswith("engine"):
        assert "ftc did not install it" in done.stderr + done.stdout


def test_what_is_named_is_started(clone: Path) -> None:
    mark = plant(clone / ".engines" / "llamafactory" / "bin" / "python")
    call(clone, "engine", "doctor", "--engine-python", ".engines/llamafactory/bin/python")
    assert mark.exists()
    mark.unlink()
    call(clone, "engine", "doctor", FTC_ENGINE_PYTHON=".engines/llamafactory/bin/python")
    assert mark.exists()


@pytest.mark.slow
def test_trust_lasts_until_it_is_another(clone: Path) -> None:
    python = clone / ".engines" / "llamafactory" / "bin" / "python"
    mark = plant(python)
    done = call(clone, "engine", "trust")
    assert done.returncode == 0, done.stderr
    assert not mark.exists(), "to trust one starts nothing"
    call(clone, "engine", "list")
    assert mark.exists()
    mark.unlink()
    python.write_text(python.read_text(encoding="utf-8") + "# another\n", encoding="utf-8")
    done = call(clone, "engine", "list")
    assert not mark.exists()
    assert "it is not the one that was trusted" in done.stdout + done.stderr
    call(clone, "engine", "trust", ".engines/llamafactory")
    call(clone, "engine", "list")
    assert mark.exists()


@pytest.mark.slow
def test_another_environment_at_the_same_path_is_not_trusted(clone: Path) -> None:
    """A clone that is deleted and made anew, with the same files in it."""
    python = clone / ".engines" / "llamafactory" / "bin" / "python"
    plant(python)
    call(clone, "engine", "trust")
    (clone / ".engines").rename(clone / "before")
    mark = plant(python)
    call(clone, "engine", "list")
    assert not mark.exists()
    (clone / ".engines").rename(clone / "after")
    (clone / "before").rename(clone / ".engines")
    call(clone, "engine", "list")
    assert mark.exists(), "the one that was trusted still is"


@pytest.mark.slow
def test_what_git_keeps_is_not_trusted(clone: Path) -> None:
    """Files of an environment that come with a pull."""
    python = clone / ".engines" / "llamafactory" / "bin" / "python"
    mark = plant(python)
    call(clone, "engine", "trust")
    (clone / ".git" / "index").write_bytes(
        b"DIRC\0\0\0\2 .engines/llamafactory/lib/python3.11/site-packages/evil.pth\0"
    )
    done = call(clone, "engine", "list")
    assert not mark.exists()
    assert "files of it are in the repository" in done.stdout


@pytest.mark.slow
def test_the_users_own_needs_no_trust(clone: Path) -> None:
    mark = plant(clone.parent / "home" / "data" / "ftdsl" / "engines" / "llamafactory" / "bin" / "python")
    call(clone, "engine", "list")
    assert mark.exists()


def test_a_python_outside_that_a_recipe_names_needs_none(clone: Path) -> None:
    mark = plant(clone.parent / "envs" / "lf" / "bin" / "python")
    engine = f'engine = llamafactory(python = "{clone.parent}/envs/lf/bin/python")'
    (clone / "r.ft").write_text(RECIPE.format(engine=engine), encoding="utf-8")
    call(clone, "run", "r.ft")
    assert mark.exists()


@pytest.mark.slow
def test_a_module_of_the_folder_stands_in_for_none(clone: Path) -> None:
    """`ftc engine doctor` looks for torch; a torch.py beside the recipe is not what it finds."""
    for name in ("torch", "torchaudio", "llamafactory", "venv", "pip"):
        (clone / f"{name}.py").write_text("open('STARTED', 'w')\n", encoding="utf-8")
    call(clone, "engine", "doctor", "--engine-python", sys.executable)
    call(clone, "engine", "list", FTC_ENGINE_PYTHON=sys.executable)
    assert not (clone / "STARTED").exists()


STAND_IN = """#!/bin/sh
case "$*" in
  *" pip "* | *"import torchaudio"* | *"import sysconfig"*) ;;
  *) touch "{mark}"; echo '{{"python": "3.11.7", "packages": {{"llamafactory": "0.9.5"}}}}' ;;
esac
"""


@pytest.mark.slow
def test_an_installed_one_is_started(clone: Path) -> None:
    """What `ftc engine install` completes is started from then on; pip is a stand-in that says yes."""
    python = clone / ".engines" / "llamafactory" / "bin" / "python"
    mark = plant(python)
    python.write_text(STAND_IN.format(mark=mark), encoding="utf-8")
    done = call(clone, "engine", "install", "llamafactory", "--trust")
    assert done.returncode == 0, done.stderr
    mark.unlink()
    done = call(clone, "engine", "list")
    assert "llamafactory 0.9.5" in done.stdout
    assert "not started" not in done.stdout
    assert mark.exists()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"trusted": []}', '{"trusted": {"a": 1}}', "\0"])
@pytest.mark.slow
def test_a_record_of_any_kind_is_survived(content: str, clone: Path) -> None:
    mark = plant(clone / ".engines" / "llamafactory" / "bin" / "python")
    record = clone.parent / "home" / "state" / "ftdsl" / "engines.json"
    record.parent.mkdir(parents=True)
    record.write_text(content, encoding="utf-8")
    done = call(clone, "engine", "list")
    assert done.returncode == 0, done.stderr
    assert not mark.exists()
    assert call(clone, "engine", "trust").returncode == 0
    assert json.loads(record.read_text(encoding="utf-8"))["schema"] == 1


def test_without_a_home_nothing_is_kept(clone: Path) -> None:
    plant(clone / ".engines" / "llamafactory" / "bin" / "python")
    done = call(clone, "engine", "trust", HOME="", XDG_STATE_HOME="")
    assert done.returncode == 1
    assert "no home folder" in done.stderr
