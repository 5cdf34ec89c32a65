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


NAMES = [
    "HOME}$(touch pwned)${HOME", "A;touch pwned", "A\ntouch pwned\n", "A B", "A-B", "1A", "", "$(touch pwned)",
    "A`touch pwned`", "ü", "A=1", "A?$(touch pwned)", "A:-x", "A\u0000",
]  # fmt: skip


def quoted(text: str) -> str:
    """As a recipe has it."""
    for char, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\0", "\\u{0}")):
        text = text.replace(char, escape)
    return f'"{text}"'


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "recipe",
    [
        "env {{ A = secret({name}) }}\n",
        "let s = secret({name})\nenv {{ A = s }}\n",
        "env {{ {name} = {value} }}\n",
        "profile p {{ env {{ {name} = {value} }} }}\n",
        "shell z {{ run = {value}, env {{ {name} = {value} }} }}\n",
    ],
)
def test_a_name_of_a_variable_never_becomes_code(recipe: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "r.ft").write_text(
        recipe.format(name=quoted(name), value='"1"') + 'shell s { run = "true" }\n', encoding="utf-8"
    )
    flags = ("--profile", "p") if recipe.startswith("profile") else ()
    done = ftc("compile", "r.ft", *flags, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr
    assert "is not a valid name of an environment variable" in done.stderr or "FT039" in done.stderr
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("key", ["s.env.A;touch pwned", "env.A B", "s.env.1"])
def test_nor_does_one_of_the_command_line(key: str, tmp_path: Path) -> None:
    (tmp_path / "r.ft").write_text('shell s { run = "true" }\n', encoding="utf-8")
    done = ftc("compile", "r.ft", "--set", f'{key}="1"', cwd=tmp_path)
    assert done.returncode == 1
    assert not (tmp_path / "build").exists()


SECRETS = [
    'sft {{ model = hf({secret}), data = hf("a/b") }}',
    'sft {{ model = hf("a/b"), data = hf({secret}) }}',
    "sft {{ model = file({secret}), data = file({secret}) }}",
    'sft {{ model = hf("a/b"), data = hf("a/b"), to = {secret} }}',
    'sft {{ model = hf("a/b"), data = hf("a/b"), system = {secret} }}',
    'sft {{ model = hf("a/b"), data = hf("a/b"), track {{ project = {secret}, dir = {secret} }} }}',
    'sft {{ model = hf("a/b"), data = hf("a/b"), llamafactory {{ hub_token = {secret} }} }}',
    'sft {{ model = hf("a/b"), data = hf("a/b"), deepspeed {{ tag = {secret} }} }}',
    'sft {{ model = hf("a/b"), data = hf("a/b"), launch {{ head = {secret} }} }}',
    'sft {{ model = hf("a/b"), data = hf("a/b"), resume = {secret}, push = hf({secret}) }}',
    'sft {{ model = hf("a/b"), data = hf("a/b"), tokenizer {{ add = [{secret}] }} }}',
    'sft {{ model = hf("a/b"), data = hf("a/b"), template = {secret}, optim {{ name = {secret} }} }}',
    'merge m {{ model = hf("a/b"), to = {secret} }}',
    "shell s {{ run = {secret} }}",
    'shell s {{ run = "true", inputs = [file({secret})], outputs = [{secret}] }}',
    'data d {{ source = hf("a/b", revision = {secret}), media = {secret}, drop = [{secret}] }}',
    "name = {secret}",
    "engine = llamafactory({secret}, python = {secret})",
    'let t = "a {{s}} b"\nshell s {{ run = "echo {{t}} {{s}}" }}',
]


@pytest.mark.parametrize("recipe", SECRETS)
def test_a_secret_stands_nowhere_else(recipe: str, tmp_path: Path) -> None:
    """Wherever a text may stand that is written into a file: an error at its place."""
    text = (
        'let s = secret("MY_SECRET")\n' + recipe.format(secret='secret("MY_SECRET")') + '\nshell x { run = "true" }\n'
    )
    (tmp_path / "r.ft").write_text(text, encoding="utf-8")
    done = ftc("compile", "r.ft", cwd=tmp_path)
    assert done.returncode == 1
    assert "bug" not in done.stderr
    assert "Secret(" not in done.stderr
    assert "error[FT0" in done.stderr
    assert "--> r.ft:2" in done.stderr or "--> r.ft:3" in done.stderr
    assert not (tmp_path / "build").exists()


VIA = {
    "written": "shell s {{ run = {script} }}",
    "a let": "let code = {script}\nshell s {{ run = code }}",
    "a let of a let": "let code = {script}\nlet other = code\nshell s {{ run = other }}",
    "a swept let": "let code in [{script}, {script}]\nshell s {{ run = code }}",
    "swept": "shell s {{ run in [{script}, {script}] }}",
    "a param": "param code: text = {script}\nshell s {{ run = code }}",
    "a profile": 'shell s {{ run = "true" }}\nprofile p {{ s.run = {script} }}',
    "an include": 'include "lib.ft" as lib\nshell s {{ run = lib.code }}',
}


@pytest.mark.parametrize("via", VIA)
@pytest.mark.slow
def test_a_script_by_any_name_runs_only_its_own_text(via: str, tmp_path: Path) -> None:
    script = "\"printf '%s\\\\0' {x} > out.txt\""
    head = f"let x = {QUOTED}\n"
    (tmp_path / "lib.ft").write_text(f"{head}let code = {script}\n", encoding="utf-8")
    (tmp_path / "r.ft").write_text(head + VIA[via].format(script=script) + "\n", encoding="utf-8")
    flags = ("--profile", "p") if via == "a profile" else ()
    done = ftc("compile", "r.ft", "-o", "build", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = subprocess.run(
        ["bash", "build/run.sh", "here"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "FT_PYTHON": sys.executable},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert (tmp_path / "here" / "out.txt").read_text(encoding="utf-8") == f"{EVIL}\0"
    assert not list(tmp_path.rglob("pwned*"))


def test_names_that_share_a_variable_do_not(tmp_path: Path) -> None:
    """`{a_b}`, `{A_B}` and `{python}` are three names, and FT_PYTHON is ours."""
    text = (
        'let a_b = "one"\nlet A_B = "two"\nlet python = "three"\nlet head = "four"\nlet used = "five"\n'
        'shell s { env { FT_USED = "mine" }\n  run = "printf \'%s \' {a_b} {A_B} {python} {head} {used} ${FT_USED} > out.txt" }\n'
    )
    (tmp_path / "r.ft").write_text(text, encoding="utf-8")
    assert ftc("compile", "r.ft", "-o", "build", cwd=tmp_path).returncode == 0
    run = subprocess.run(
        ["bash", "build/run.sh", "here"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "FT_PYTHON": sys.executable},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "here" / "out.txt").read_text(encoding="utf-8") == "one two three four five mine "


def test_a_name_that_cannot_stand_where_it_stands_is_shown_there(tmp_path: Path) -> None:
    text = 'let x = "1; touch pwned"\nlet n = 3\nshell s { run = """\n  echo {x} $(( {n} * 2 ))\n  bash -c "ls {x}"\n""" }\n'
    (tmp_path / "r.ft").write_text(text, encoding="utf-8")
    done = ftc("check", "r.ft", cwd=tmp_path)
    assert done.returncode == 1
    assert (
        "error[FT064] value-would-be-code: `{x}` cannot be used here: `bash -c` runs its argument as code"
        in done.stdout
    )
    assert "--> r.ft:5:15" in done.stdout


def test_what_the_environment_holds_arrives_in_a_text(tmp_path: Path) -> None:
    text = 'let dir = env("SOME_DIR")\nshell s { run = "printf %s {dir}/x > out.txt" }\n'
    (tmp_path / "r.ft").write_text(text, encoding="utf-8")
    done = ftc("compile", "r.ft", "-o", "build", cwd=tmp_path, SOME_DIR="/a b")
    assert done.returncode == 0, done.stderr
    assert "export FT_DIR='/a b'" in (tmp_path / "build" / "10-s" / "launch.sh").read_text(encoding="utf-8")


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
