"""Values that would like to be code: in every place a text can stand, compiled, and the scripts really run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ALPACA, ROOT, ftc

EVIL = "a\"; touch pwned; $(touch pwned) `touch pwned` ' \n touch pwned #"
QUOTED = '"' + EVIL.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("$(", "$(") + '"'

PLACES = {
    "system": "  system = {evil}",
    "to": "  to = {evil}",
    "model": "",
    "env": "  env {{ SOME = {evil} }}",
    "track.project": "  track {{ project = {evil}, name = {evil}, tags = [{evil}] }}",
    "passthrough": "  llamafactory {{ cache_dir = {evil} }}",
    "tokens": "  tokenizer {{ add = [{evil}] }}",
    "head": "  launch {{ head = {evil} }}\n  parallel {{ strategy = zero2 }}",
    "push": "  push = hf({evil})",
    "resume": "  resume = file({evil})",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_value_never_becomes_code(place: str, tmp_path: Path) -> None:
    stage = PLACES[place].format(evil=QUOTED)
    model = QUOTED if place == "model" else '"org/model"'
    (tmp_path / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    doc = f"## {EVIL.splitlines()[0]}\n"
    body = f'  model = hf({model})\n  data = file("rows.jsonl")\n{stage}\n'
    text = f"{doc}\n{doc}sft {{\n{body}}}\n"
    (tmp_path / "r.ft").write_text(text, encoding="utf-8")
    done = ftc("compile", "r.ft", "-o", "build", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    build = tmp_path / "build"
    for script in build.rglob("*.sh"):
        assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    for document in build.glob("*/*.yaml"):
        assert isinstance(yaml.safe_load(document.read_text(encoding="utf-8")), dict)
    # A stand-in for the engine's Python that prints what it was handed: the scripts run as they are.
    fake = tmp_path / "fake python"
    fake.write_text('#!/usr/bin/env bash\nprintf \'%s\\n\' "$@" >> "$OUT"\nenv -0 >> "$OUT.env"\n', encoding="utf-8")
    fake.chmod(0o755)
    out = tmp_path / "handed.txt"
    run = subprocess.run(
        ["bash", str(build / "run.sh"), str(tmp_path / "a run; touch pwned")],
        cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "FT_PYTHON": str(fake), "OUT": str(out), "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert not list(tmp_path.rglob("pwned*"))
    assert "10-sft/stage.json" in out.read_text(encoding="utf-8")
    if place == "env":
        assert f"SOME={EVIL}".encode() in out.with_name("handed.txt.env").read_bytes().split(b"\0")


def test_a_shell_stage_runs_only_its_own_text(tmp_path: Path) -> None:
    """`{x}` in the author's code is a quoted variable, whatever is in it."""
    text = (
        f"let where = {QUOTED}\n"
        'shell { run = """\n  printf \'%s\' "{where}" > out.txt\n  echo {stage.path} > path.txt\n"""\n'
        '  outputs = ["out.txt"] }\n'
    )
    (tmp_path / "r.ft").write_text(text, encoding="utf-8")
    done = ftc("compile", "r.ft", "-o", "build", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = subprocess.run(
        ["bash", "build/run.sh", "here"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "FT_PYTHON": sys.executable},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert (tmp_path / "here" / "out.txt").read_text(encoding="utf-8") == EVIL
    assert not list(tmp_path.rglob("pwned*"))


def test_a_secret_is_only_ever_a_reference(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    text = 'env { HF_TOKEN = secret("MY_TOKEN") }\nsft {\n  model = hf("a/b")\n  data = file("rows.jsonl")\n}\n'
    (tmp_path / "r.ft").write_text(text, encoding="utf-8")
    done = ftc("compile", "r.ft", "-o", "build", cwd=tmp_path, MY_TOKEN="hush-hush")
    assert done.returncode == 0, done.stderr
    everything = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()) + done.stdout.encode()
    assert b"hush-hush" not in everything
    assert 'export HF_TOKEN="${MY_TOKEN:?' in (tmp_path / "build" / "10-sft" / "launch.sh").read_text(encoding="utf-8")


def test_json_of_a_check_is_stable(tmp_path: Path) -> None:
    done = ftc("check", "--json", str(ROOT / "examples" / "qlora_24gb.ft"), cwd=tmp_path)
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    assert document["errors"] == 0
    assert all({"code", "name", "severity", "file", "line", "column"} <= set(one) for one in document["diagnostics"])
