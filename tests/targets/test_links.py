"""Links and manifests that come with a clone: no verb writes, or deletes, outside of where it is asked to."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ALPACA, ftc

MESSY = 'hardware{gpu=none,count=1}\nsft   {\n model = hf("Qwen/Qwen3-0.6B")\n data=file("rows.jsonl")\n  duration: 1 epoch\n}\n'
TIDY = MESSY.replace("duration:", "duration =")
SHELL = 'shell s { run = "true" }\n'
YAML = (
    "stage: sft\ndo_train: true\nmodel_name_or_path: Qwen/Qwen3-0.6B\ndataset: x\ntemplate: qwen3\noutput_dir: o\n"
    "lr_scheduler_type: cosine\nwarmup_ratio: 0.1\n"
)
TIGHT = (
    'hardware { gpu = rtx4090, count = 1 }\nsft { model = hf("Qwen/Qwen3-8B"), data = file("rows.jsonl"), max_len = 4Ki\n'
    "  lora { rank = 16 }, batch { global = 16, micro = 16 }, duration = 1 epoch }\n"
)

WRITERS = {
    "fmt": (TIDY, ("fmt", "{file}")),
    "fmt of a folder": (TIDY, ("fmt", ".")),
    "check --fix": (MESSY, ("check", "{file}", "--fix", "--unsafe-fixes")),
    "upgrade": (YAML, ("upgrade", "{file}", "--to", "transformers==5.15")),
    "plan --apply": (TIGHT, ("plan", "{file}", "--apply", "1")),
}
"""Verbs that write a file of the user's anew, and a text that makes them do it."""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository somebody else made, beside files of the user's."""
    (tmp_path / "victim" / "sub").mkdir(parents=True)
    (tmp_path / "victim" / "precious").write_text("mine", encoding="utf-8")
    (tmp_path / "victim" / "sub" / "launch.sh").write_text("mine", encoding="utf-8")
    folder = tmp_path / "clone"
    (folder / ".git").mkdir(parents=True)
    (folder / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    return folder


def untouched(clone: Path) -> bool:
    victim = clone.parent / "victim"
    files = {p.relative_to(victim).as_posix(): p.read_text(encoding="utf-8") for p in victim.rglob("*") if p.is_file()}
    return files == {"precious": "mine", "sub/launch.sh": "mine"}


def name_of(what: str) -> str:
    return "r.yaml" if what == "upgrade" else "r.ft"


@pytest.mark.parametrize("what", WRITERS)
def test_no_planted_neighbour_is_written_to(what: str, clone: Path) -> None:
    """Names under which a file might be written beside its place."""
    text, arguments = WRITERS[what]
    name = name_of(what)
    (clone / name).write_text(text, encoding="utf-8")
    for beside in (f".{name}.ftc", f".{name}.tmp", f"{name}.tmp", f".{name}", f"{name}~", f".ftc-{name}"):
        (clone / beside).symlink_to("../victim/precious")
    done = ftc(*(part.format(file=name) for part in arguments), cwd=clone)
    assert "Traceback" not in done.stderr
    assert untouched(clone)
    assert not (clone / name).is_symlink()
    assert (clone / name).read_text(encoding="utf-8") != text, done.stderr


@pytest.mark.parametrize("what", WRITERS)
def test_a_recipe_that_links_out_of_the_project_is_not_written(what: str, clone: Path) -> None:
    text, arguments = WRITERS[what]
    name = name_of(what)
    outside = clone.parent / name
    outside.write_text(text, encoding="utf-8")
    (clone / name).symlink_to(outside)
    done = ftc(*(part.format(file=name) for part in arguments), cwd=clone)
    assert "Traceback" not in done.stderr
    assert "outside of its project: not changed" in done.stderr
    assert done.returncode == 1
    assert outside.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("what", WRITERS)
def test_a_recipe_that_links_within_the_project_is_written_where_it_lies(what: str, clone: Path) -> None:
    text, arguments = WRITERS[what]
    name = name_of(what)
    real = clone / "shared" / name
    real.parent.mkdir()
    real.write_text(text, encoding="utf-8")
    (real.parent / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    (clone / name).symlink_to(Path("shared", name))
    done = ftc(*(part.format(file=name) for part in arguments), cwd=clone)
    assert (clone / name).is_symlink(), done.stderr
    assert real.read_text(encoding="utf-8") != text, done.stderr


@pytest.mark.parametrize("target", [".git/config.ft", "notes.txt"])
def test_a_link_to_what_is_no_recipe_of_the_project_is_not_written(target: str, clone: Path) -> None:
    (clone / target).write_text(TIDY, encoding="utf-8")
    (clone / "r.ft").symlink_to(target)
    done = ftc("fmt", "r.ft", cwd=clone)
    assert done.returncode == 1
    assert (clone / target).read_text(encoding="utf-8") == TIDY


PLANTED = {
    "build": "../victim",
    "build/r": "../../victim",
    "build/r/10-s": "../../../victim/sub",
    "build/r/10-s/launch.sh": "../../../../victim/precious",
    "build/r/run.sh": "../../../victim/precious",
    "build/r/manifest.json": "../../../victim/precious",
    "build/r/nothing": "../../../victim/none",
}


@pytest.mark.parametrize("place", PLANTED)
@pytest.mark.parametrize("listed", [True, False])
def test_compile_writes_through_no_link(place: str, listed: bool, clone: Path) -> None:
    (clone / "r.ft").write_text(SHELL, encoding="utf-8")
    link = clone / place
    link.parent.mkdir(parents=True, exist_ok=True)
    if listed and place.startswith("build/r/") and "manifest" not in place:
        names = [place.removeprefix("build/r/"), "10-s/launch.sh", "run.sh", "manifest.json"]
        (clone / "build" / "r" / "manifest.json").write_text(json.dumps({"artifacts": dict.fromkeys(names, "x")}))
    link.symlink_to(PLANTED[place])
    done = ftc("compile", "r.ft", cwd=clone)
    assert "Traceback" not in done.stderr
    assert untouched(clone)
    assert link.is_symlink()
    assert done.returncode == (0 if place.endswith("nothing") else 1), done.stderr
    if done.returncode:
        assert "FT085" in done.stderr
        assert place in done.stderr


@pytest.mark.parametrize(
    "name",
    ["a/precious", "a/sub/launch.sh", "b", "../../victim/precious", "x/../../../victim/precious", "", ".", "..", "/"],
)
def test_a_manifest_deletes_nothing_outside(name: str, clone: Path) -> None:
    (clone / "r.ft").write_text(SHELL, encoding="utf-8")
    build = clone / "build" / "r"
    build.mkdir(parents=True)
    (build / "a").symlink_to("../../../victim")
    (build / "b").symlink_to("../../../victim/precious")
    absolute = str(clone.parent / "victim" / "precious")
    (build / "manifest.json").write_text(json.dumps({"artifacts": {name: "x", absolute: "x", "old/gone.json": "x"}}))
    (build / "old").mkdir()
    (build / "old" / "gone.json").write_text("{}")
    done = ftc("compile", "r.ft", cwd=clone)
    assert done.returncode == 0, done.stderr
    assert untouched(clone)
    assert not (build / "old").exists(), "what an earlier compile left is gone"
    assert (build / "b").is_symlink()


@pytest.mark.parametrize(
    "content",
    ["[]", '{"artifacts": 3}', '{"artifacts": ["a"]}', "[" * 100_000, "\xff", '{"artifacts": {"a\\u0000": 1}}'],
)
def test_a_manifest_of_any_kind_is_survived(content: str, clone: Path) -> None:
    (clone / "r.ft").write_text(SHELL, encoding="utf-8")
    (clone / "build" / "r").mkdir(parents=True)
    (clone / "build" / "r" / "manifest.json").write_text(content, encoding="latin-1")
    done = ftc("compile", "r.ft", cwd=clone)
    assert "bug" not in done.stderr
    assert done.returncode == 0 or "`ftc compile` did not write it" in done.stderr, done.stderr


def test_a_folder_that_is_named_may_be_a_link(clone: Path) -> None:
    """`-o` is the user's own word; below it nothing is followed."""
    (clone / "r.ft").write_text(SHELL, encoding="utf-8")
    (clone.parent / "disk").mkdir()
    (clone / "out").symlink_to("../disk")
    assert ftc("compile", "r.ft", "-o", "out", cwd=clone).returncode == 0
    assert (clone.parent / "disk" / "run.sh").exists()


def test_a_lock_that_is_a_link_is_left(clone: Path) -> None:
    (clone / "r.ft").write_text(SHELL, encoding="utf-8")
    (clone / "r.lock").symlink_to("../victim/precious")
    done = ftc("compile", "r.ft", cwd=clone)
    assert "r.lock could not be written" in done.stderr
    assert untouched(clone)


@pytest.mark.parametrize("place", ["quickstart.ft", "data", "data/capitals.jsonl"])
def test_init_writes_through_no_link(place: str, clone: Path) -> None:
    (clone / place).parent.mkdir(exist_ok=True)
    (clone / place).symlink_to(clone.parent / "victim" / ("new" if "." in place else ""))
    done = ftc("init", cwd=clone)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert untouched(clone)


@pytest.mark.parametrize("flags", [(), ("--force",)])
@pytest.mark.parametrize("target", ["precious", "none"])
def test_import_writes_through_no_link(flags: tuple[str, ...], target: str, clone: Path) -> None:
    (clone / "a.yaml").write_text(YAML, encoding="utf-8")
    (clone / "o.ft").symlink_to(f"../victim/{target}")
    done = ftc("import", "a.yaml", "-o", "o.ft", *flags, cwd=clone)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert untouched(clone)


def test_run_writes_through_no_link_in_its_home(clone: Path) -> None:
    (clone / "r.ft").write_text(SHELL, encoding="utf-8")
    (clone / "runs" / "r").mkdir(parents=True)
    (clone / "runs" / "r" / ".lock").symlink_to("../../../victim/precious")
    done = ftc("run", "r.ft", cwd=clone)
    assert done.returncode == 1
    assert "is a link" in done.stderr
    assert untouched(clone)


@pytest.mark.parametrize("place", ["runs/r", "runs/r/.recipe", "runs/r/.pid", "runs/r/supervisor.log"])
def test_run_writes_through_no_link_below_runs(place: str, clone: Path) -> None:
    (clone / "r.ft").write_text(SHELL, encoding="utf-8")
    link = clone / place
    link.parent.mkdir(parents=True)
    link.symlink_to(clone.parent / "victim" / ("" if place == "runs/r" else "precious"))
    done = ftc("run", "r.ft", cwd=clone)
    assert "Traceback" not in done.stderr
    assert untouched(clone)


def test_runs_may_lie_on_another_disk(clone: Path) -> None:
    (clone / "r.ft").write_text(SHELL, encoding="utf-8")
    (clone.parent / "disk").mkdir()
    (clone / "runs").symlink_to("../disk")
    assert ftc("run", "r.ft", cwd=clone).returncode == 0
    assert (clone.parent / "disk" / "r" / "last").exists()


@pytest.mark.slow
def test_a_run_that_is_gone_on_with_writes_through_no_link(clone: Path) -> None:
    """A log in the place of which a link lies, in a run that was left unfinished."""
    (clone / "r.ft").write_text('shell s { run = "exit 1" }\n', encoding="utf-8")
    assert ftc("run", "r.ft", cwd=clone).returncode == 1
    log = clone / "runs" / "r" / "last" / "10-s" / "log.txt"
    log.unlink()
    log.symlink_to(clone.parent / "victim" / "precious")
    done = ftc("run", "r.ft", cwd=clone)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert untouched(clone)


@pytest.mark.slow
def test_modes_follow_the_umask(clone: Path) -> None:
    """launch.sh and manifest.json may hold values of `env()`."""
    (clone / "r.ft").write_text(SHELL, encoding="utf-8")
    before = os.umask(0o077)
    try:
        assert ftc("compile", "r.ft", cwd=clone).returncode == 0
        assert ftc("run", "r.ft", cwd=clone).returncode == 0
    finally:
        os.umask(before)
    made = [p for folder in ("build", "runs") for p in (clone / folder).rglob("*") if p.is_file()]
    made = [p for p in made if "runtime" not in p.parts]
    assert made
    assert not [p for p in [*made, clone / "r.lock"] if p.stat().st_mode & 0o077]
    done = subprocess.run(["bash", "build/r/run.sh", "here"], cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
