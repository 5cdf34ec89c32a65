"""docs/trust.md against the program: a row for every command, and what a cell calls nothing is nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ftdsl.cli.main import VERBS
from tests.conftest import ALPACA, ROOT

PAGE = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
ROWS = {
    row[0]: row[1:]
    for row in re.findall(r"^\| `ftc (\w+)` \| (.*?) \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
}  # fmt: skip

RECIPE = """\
hardware { gpu = none, count = 1 }
data rows { source = file("rows.jsonl"), holdout { eval = 25% } }
sft { model = hf("Qwen/Qwen3-0.6B"), data = rows, duration = 1 epoch, lora {} }
shell last { after = sft, run = "touch started" }
"""
YAML = "stage: sft\ndo_train: true\nmodel_name_or_path: Qwen/Qwen3-0.6B\ndataset: x\ntemplate: qwen3\noutput_dir: o\n"

CALLS = {
    "init": [("init", "new")],
    "import": [
        ("import", "a.yaml"),
        ("import", "a.yaml", "--json"),
        ("import", "a.yaml", "--verify"),
        ("import", "a.yaml", "-o", "x.ft"),
    ],
    "check": [
        ("check", "r.ft"),
        ("check",),
        ("check", "a.yaml"),
        ("check", "r.ft", "--json"),
        ("check", "r.ft", "--diff"),
    ],
    "fmt": [("fmt", "--check"), ("fmt", "--diff", "r.ft"), ("fmt", "-")],
    "plan": [("plan", "r.ft"), ("plan", "r.ft", "--json"), ("plan", ".")],
    "data": [("data", "show", "r.ft"), ("data", "show", "r.ft", "none")],
    "compile": [("compile", "r.ft"), ("compile", "r.ft", "-o", "out")],
    "search": [("search", "show", "r.ft"), ("search", "best", "r.ft"), ("search", "export", "r.ft")],
    "status": [("status",), ("status", "r.ft"), ("status", "r.ft", "--json")],
    "watch": [("watch", "r.ft")],
    "attach": [("attach", "r.ft")],
    "logs": [("logs", "r.ft")],
    "cancel": [("cancel", "r.ft")],
    "diagnose": [("diagnose", "r.ft"), ("diagnose", "r.ft", "--json"), ("diagnose", ".")],
    "report": [("report", "r.ft", "--markdown")],
    "accept": [("accept", "r.ft", "sft", "--reason", "looked at")],
    "clean": [("clean",), ("clean", "r.ft", "--json")],
    "doctor": [("doctor",), ("doctor", "--target", "slurm")],
    "graph": [("graph", "r.ft"), ("graph", "r.ft", "--format", "svg")],
    "explain": [
        ("explain", "r.ft"),
        ("explain", "r.ft", "sft"),
        ("explain", "r.ft", "sft.lora.rank"),
        ("explain", "FT401"),
    ],
    "diff": [("diff", "r.ft", "r.ft"), ("diff", "r.ft", "a.yaml")],
    "upgrade": [("upgrade", "r.ft", "a.yaml", "--to", "transformers==5.15", "--diff")],
    "engine": [("engine", "list"), ("engine", "doctor")],
    "models": [("models", "show", "Qwen/Qwen3-8B")],
    "measurements": [("measurements",)],
    "completion": [("completion", "bash")],
    "lsp": [("lsp",), ("lsp", "--stdio")],
    "mcp": [("mcp",)],
}
"""Calls of each command that write no more than its row says without a condition."""

WATCHED = """
import json, os, sys
seen = []
STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork", "os.forkpty", "pty.spawn")
def hook(event, arguments):
    if event in STARTS or event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        seen.append(f"{event} {arguments[0] if arguments and event in STARTS else arguments}")
sys.addaudithook(hook)
from ftdsl.cli.main import main
status = main(json.loads(sys.argv[1]))
with open(os.dup(3), "w") as out:
    json.dump([status, seen], out)
"""


def watched(arguments: tuple[str, ...], place: Path) -> tuple[int, set[str], list[str]]:
    """The exit status of a call, what it changed (the user's cache folder left aside), and what it started or connected to."""
    home, report = place.parent / "home", place.parent / "report"
    env = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT)}
    command = f'exec 3>"{report}"; exec "{sys.executable}" -c "$1" "$2"'
    before = state(place, home)
    done = subprocess.run(
        ["bash", "-c", command, "watch", WATCHED, json.dumps(arguments)],
        cwd=place, env=env, capture_output=True, text=True, check=False, input='shell s { run = "true" }\n',
    )  # fmt: skip
    assert report.read_text(), done.stderr
    status, started = json.loads(report.read_text())
    after = state(place, home)
    return status, {path for path in before | after if before.get(path) != after.get(path)}, started


def state(*folders: Path) -> dict[str, tuple[int, int, int]]:
    """Everything in these folders, by what changes when it is written, replaced or made anew."""
    found = {}
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            if ".cache" not in path.parts and not (folder.name == "home" and path == folder):
                about = path.lstat()
                found[str(path)] = (about.st_ino, about.st_mtime_ns, about.st_mode)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (tmp_path / "home").mkdir()
    (folder / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    (folder / "r.ft").write_text(RECIPE, encoding="utf-8")
    (folder / "a.yaml").write_text(YAML, encoding="utf-8")
    return folder


def test_every_command_has_a_row() -> None:
    assert set(ROWS) == set(VERBS)
    assert set(CALLS) == set(VERBS) - {"run"}


RUN = ("status", "watch", "attach", "logs", "cancel", "diagnose", "report")


@pytest.mark.parametrize("verb", RUN)
@pytest.mark.slow
def test_what_looks_at_a_run_changes_nothing(verb: str, place: Path) -> None:
    (place / "r.ft").write_text('shell s { run = "true" }\n', encoding="utf-8")
    assert watched(("run", "r.ft", "--plain"), place)[0] == 0
    for call in CALLS[verb]:
        _, wrote, started = watched(call, place)
        assert not wrote, (call, wrote)
        assert not started, (call, started)


def test_the_page_is_linked() -> None:
    assert "docs/trust.md" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "trust.md" in (ROOT / "docs" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", CALLS)
@pytest.mark.slow
def test_what_is_called_nothing_is_nothing(verb: str, place: Path) -> None:
    _, writes, starts = ROWS[verb]
    for call in CALLS[verb]:
        _, wrote, started = watched(call, place)
        if writes.startswith("nothing") or any(flag in call for flag in ("--check", "--diff", "-", "list", "doctor")):
            assert not wrote, (call, wrote)
        if starts.startswith("nothing"):
            assert not started, (call, started)
        assert not (place / "started").exists()


@pytest.mark.slow
def test_what_writes_writes_there_and_nowhere_else(place: Path) -> None:
    before = {path.relative_to(place).as_posix() for path in place.rglob("*")}
    assert watched(("compile", "r.ft"), place)[0] == 0
    after = {path.relative_to(place).parts[0] for path in place.rglob("*")}
    assert after - before == {"build", "r.lock"}
    assert {path.name for path in (place.parent / "home").iterdir()} <= {".cache"}


@pytest.mark.slow
def test_a_run_writes_there_and_nowhere_else(place: Path) -> None:
    (place / "r.ft").write_text('shell s { run = "touch made", outputs = ["made"] }\n', encoding="utf-8")
    before = {path.relative_to(place).as_posix() for path in place.rglob("*")}
    status, _, seen = watched(("run", "r.ft", "--plain"), place)
    assert status == 0
    assert {path.relative_to(place).parts[0] for path in place.rglob("*")} - before == {"runs", "r.lock"}
    assert {path.name for path in (place.parent / "home").iterdir()} <= {".cache", ".local"}
    started = {which.split()[-1] for which in seen}
    assert {name.rsplit("/", 1)[-1] for name in started} <= {"bash", Path(sys.executable).name, "nvidia-smi", "()"}, (
        started
    )  # (): a fork, the supervisor
