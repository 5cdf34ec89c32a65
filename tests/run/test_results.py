"""What is called done is there, is what was made, and was made of what is there now."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ftdsl.run.fingerprint import RACY, Digests, damage, made_by
from tests.conftest import ftc

ROWS = "".join(json.dumps({"instruction": f"q{n}", "output": f"a{n}"}) + "\n" for n in range(40))
DATA = 'data rows { source = file("rows.jsonl"), holdout { eval = 25% } }\n'
TAIL = 'shell count { after = rows, run = "wc -l < {rows.path}/train.jsonl > count.txt", outputs = ["count.txt"] }\n'


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text(ROWS, encoding="utf-8")
    (tmp_path / "r.ft").write_text(DATA + TAIL, encoding="utf-8")
    return tmp_path


def run(place: Path, *arguments: str, file: str = "r.ft") -> dict[str, Any]:
    done = ftc("run", file, "--json", *arguments, cwd=place)
    assert "Traceback" not in done.stderr, done.stderr
    document: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"stages": []}
    statuses = {stage["stage"]: stage["status"] for stage in document["stages"]}
    return document | {"code": done.returncode, "stderr": done.stderr, "statuses": statuses}


def why(place: Path, stage: str) -> list[str]:
    printed = json.loads(ftc("plan", "r.ft", "--json", cwd=place).stdout)
    found: list[str] = next(one["why"] for one in printed["stages"] if one["stage"] == stage)
    return found


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["train.jsonl", "eval.jsonl", "result.json"])
@pytest.mark.parametrize("harm", [cut, flip, Path.unlink], ids=["cut", "flipped", "gone"])
@pytest.mark.slow
def test_a_result_that_was_damaged_is_made_again(name: str, harm: Any, place: Path) -> None:
    first = run(place)
    harm(place / first["run"] / "10-rows" / name)
    assert why(place, "rows") and name in why(place, "rows")[0]
    second = run(place)
    assert second["statuses"] == {"rows": "done", "count": "cached"}, second["stderr"]
    assert f"rows runs again: 10-rows/{name}" in second["stderr"]
    assert run(place)["statuses"] == {"rows": "cached", "count": "cached"}


@pytest.mark.slow
def test_a_result_that_was_only_touched_or_copied_is_the_same(place: Path) -> None:
    first = run(place)
    folder = place / first["run"] / "10-rows"
    os.utime(folder / "train.jsonl", (1, 1))
    shutil.copy(folder / "eval.jsonl", folder / "copy")
    (folder / "copy").replace(folder / "eval.jsonl")
    assert run(place)["statuses"] == {"rows": "cached", "count": "cached"}


def hidden(path: Path) -> None:
    """An edit that keeps size, inode and time of the content."""
    facts = path.stat()
    with path.open("r+b") as handle:
        handle.seek(17)
        handle.write(b"Z")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert path.stat().st_mtime_ns == facts.st_mtime_ns and path.stat().st_ino == facts.st_ino


def linked(path: Path) -> None:
    """A folder's files by way of a link to a folder that is edited later."""
    folder = path.parent
    elsewhere = folder.with_name("elsewhere")
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere.name)
    flip(elsewhere / path.name)


def swapped(path: Path) -> None:
    """A folder in the place of a file."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [hidden, linked, swapped])
@pytest.mark.slow
def test_nor_is_one_that_was_changed_on_the_sly(harm: Any, place: Path) -> None:
    first = run(place)
    harm(place / first["run"] / "10-rows" / "train.jsonl")
    assert "10-rows/train.jsonl" in why(place, "rows")[0]
    assert run(place)["statuses"]["rows"] == "done"


@pytest.mark.slow
def test_an_input_that_was_changed_on_the_sly_has_changed(place: Path) -> None:
    os.utime(place / "rows.jsonl", (1, 1))
    time.sleep(RACY + 0.5)  # from then on what it holds is known by its times
    assert run(place)["statuses"]["rows"] == "done" and run(place)["statuses"]["rows"] == "cached"
    hidden(place / "rows.jsonl")
    assert why(place, "rows") == ["rows.jsonl has changed"]


@pytest.mark.slow
def test_verify_reads_everything(place: Path) -> None:
    """A bit that was flipped behind the file system's back changes neither size nor time."""
    folder = place / run(place)["run"]
    train = folder / "10-rows" / "train.jsonl"
    before = str(train.stat().st_ctime_ns)
    flip(train)
    known = (folder / "events.jsonl").read_text(encoding="utf-8")
    assert before in known
    (folder / "events.jsonl").write_text(known.replace(before, str(train.stat().st_ctime_ns)), encoding="utf-8")
    assert run(place)["statuses"]["rows"] == "cached", "what looks the same is taken for the same"
    assert run(place, "--verify")["statuses"]["rows"] == "done"


@pytest.mark.slow
def test_a_file_that_changes_before_its_stage_reads_it(place: Path) -> None:
    """Kept under what it was made of, not under what was there when `ftc run` began."""
    (place / "r.ft").write_text(
        'shell slow { run = "sleep 3" }\ndata rows { after = slow, source = file("rows.jsonl") }\n', encoding="utf-8"
    )
    process = subprocess.Popen([sys.executable, "-m", "ftdsl.cli.main", "run", "r.ft"], cwd=place)
    while not (place / "runs" / "r" / "last" / "10-slow" / ".lock").exists():
        time.sleep(0.02)
    (place / "rows.jsonl").write_text("".join(ROWS.splitlines(keepends=True)[:10]), encoding="utf-8")
    assert process.wait(timeout=60) == 0
    train = place / "runs" / "r" / "last" / "20-rows" / "train.jsonl"
    assert len(train.read_text(encoding="utf-8").splitlines()) == 10
    assert run(place)["statuses"]["rows"] == "cached", "it is what the file holds now"
    (place / "rows.jsonl").write_text(ROWS, encoding="utf-8")
    again = run(place)
    assert again["statuses"] == {"slow": "cached", "rows": "done"}
    assert len((place / again["run"] / "20-rows" / "train.jsonl").read_text(encoding="utf-8").splitlines()) == 40


@pytest.mark.slow
def test_a_file_that_changes_while_its_stage_reads_it_is_not_trusted(place: Path) -> None:
    text = 'shell a { inputs = [file("rows.jsonl")], run = "sleep 3; cat inputs/rows.jsonl > a.txt", outputs = ["a.txt"] }\n'
    (place / "r.ft").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "ftdsl.cli.main", "run", "r.ft", "--plain"]
    process = subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, text=True)
    while not (place / "runs" / "r" / "last" / "10-a" / ".lock").exists():
        time.sleep(0.02)
    (place / "rows.jsonl").write_text(ROWS + ROWS, encoding="utf-8")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "a file it reads changed while it ran" in err
    for content in (ROWS, ROWS + ROWS):
        (place / "rows.jsonl").write_text(content, encoding="utf-8")
        assert run(place)["statuses"]["a"] == "done"


@pytest.mark.slow
def test_a_script_that_is_run_is_an_input(place: Path) -> None:
    (place / "work.py").write_text("print(1)\n", encoding="utf-8")
    (place / "r.ft").write_text(
        'shell a { run = "python3 inputs/work.py > a.txt", outputs = ["a.txt"] }\n', encoding="utf-8"
    )
    assert run(place)["statuses"]["a"] == "done"
    (place / "work.py").write_text("print(2)\n", encoding="utf-8")
    assert why(place, "a") == ["work.py has changed"]
    assert (place / run(place)["run"] / "a.txt").read_text(encoding="utf-8") == "2\n"


def test_a_changed_recipe_deletes_no_checkpoint(place: Path) -> None:
    """An edit, a profile or `--set` after an interruption sets them aside, and says where."""
    text = """shell a { run = \"\"\"
      mkdir -p 10-a/result/checkpoint-75
      echo weights > 10-a/result/checkpoint-75/model
      sleep 60
    \"\"\" }
    """
    (place / "r.ft").write_text(text, encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-m", "ftdsl.cli.main", "run", "r.ft"], cwd=place)
    while not (place / "runs" / "r" / "last" / "10-a" / "result" / "checkpoint-75" / "model").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    (place / "r.ft").write_text('shell a { run = "true" }\n', encoding="utf-8")
    done = run(place)
    assert "the checkpoints of before are in" in done["stderr"]
    kept = place / done["run"] / "10-a.before-1" / "result" / "checkpoint-75" / "model"
    assert kept.read_text(encoding="utf-8") == "weights\n"


@pytest.mark.slow
def test_names_of_stages_and_recipes_do_not_count(place: Path) -> None:
    first = run(place)
    renamed = (DATA + TAIL).replace("shell count", "shell number")
    (place / "r.ft").write_text(renamed, encoding="utf-8")
    assert run(place)["statuses"] == {"rows": "cached", "number": "cached"}
    (place / "r.ft").rename(place / "other.ft")
    other = run(place, file="other.ft")
    assert other["statuses"] == {"rows": "cached", "number": "done"}, "a script may have meant more than its outputs"
    assert other["run"] != first["run"]


def test_ftcs_own_upgrade_makes_nothing_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A remark in the runtime's code is no reason; a version that is raised is."""
    from ftdsl.language.resolve.resolve import Options
    from ftdsl.pipeline import compile_recipe
    from ftdsl.run.cache_keys import CacheKeys
    from ftdsl.runtime.versions import VERSIONS
    from ftdsl.session import Session

    compiled = compile_recipe(place / "r.ft", Options(), Session())
    assert compiled is not None
    keys = [CacheKeys(compiled.jobs, place, {}, Digests()) for _ in range(2)]
    assert keys[0] == keys[1]
    monkeypatch.setitem(VERSIONS, "data", VERSIONS["data"] + 1)
    raised = CacheKeys(compiled.jobs, place, {}, Digests())
    assert raised["rows"] != keys[0]["rows"] and raised["count"] != keys[0]["count"]


SFT = """
hardware { gpu = none, count = 1 }
sft { model = file("base"), data = file("rows.jsonl"), template = qwen3_nothink, duration = 3 steps, lora {}
  MORE
}
"""


@pytest.mark.parametrize(
    ("more", "same"),
    [
        ("track { every = 1 steps }", True),
        ("track { to = tensorboard }", True),
        ("save { keep = 2 }", True),
        ('track { to = wandb, project = "p", name = "n" }', True),
        ("launch { retries = 3 }", True),
        ("launch { timeout = 2h }", True),
        ("hardware.count = 2, launch { port = 29999, retries = 2 }", True),
        ("# a remark\n  ## and what it is for", True),
        ("guard { spike = warn(factor = 3), stall = stop }", True),
        ("guard { spike = rollback }", False),
        ("optim { lr = 1e-5 }", False),
        ("save { best_by = eval_loss }, evaluate { data = 10% }", False),
    ],
)
def test_bookkeeping_does_not_train_again(more: str, same: bool, place: Path) -> None:
    from ftdsl.language.resolve.resolve import Options
    from ftdsl.pipeline import compile_recipe
    from ftdsl.run.cache_keys import CacheKeys
    from ftdsl.session import Session

    (place / "base").mkdir()
    (place / "base" / "config.json").write_text('{"model_type": "qwen3"}', encoding="utf-8")
    keys = []
    for text in ("hardware.count = 2" if "hardware" in more else "", more):
        (place / "r.ft").write_text(SFT.replace("MORE", text), encoding="utf-8")
        session = Session()
        compiled = compile_recipe(place / "r.ft", Options(), session)
        assert compiled is not None, [one.message for one in session.sink.ordered()]
        keys.append(CacheKeys(compiled.jobs, place, {}, Digests())["sft"])
    assert (keys[0] == keys[1]) == same


@pytest.mark.parametrize(
    "model",
    ['file("base")', 'adapter(file("tuned"), base = file("base"))', 'adapter(file("tuned"), base = hf("a/b"))'],
)
def test_local_models_and_adapters_are_inputs(model: str, place: Path) -> None:
    from ftdsl.language.resolve.resolve import Options
    from ftdsl.pipeline import compile_recipe
    from ftdsl.run.cache_keys import CacheKeys
    from ftdsl.session import Session

    for name, files in (
        ("base", ("config.json", "model.safetensors")),
        ("tuned", ("adapter_config.json", "adapter_model.safetensors")),
    ):
        (place / name).mkdir()
        for file in files:
            (place / name / file).write_text("{}", encoding="utf-8")
    (place / "r.ft").write_text(SFT.replace('file("base")', model).replace("MORE", ""), encoding="utf-8")
    compiled = compile_recipe(place / "r.ft", Options(), Session())
    assert compiled is not None
    named = [name for name in ("base", "tuned") if f'file("{name}")' in model]
    for name in named:
        before = CacheKeys(compiled.jobs, place, {}, Digests())
        weights = next((place / name).glob("*.safetensors"))
        flip(weights)
        after = CacheKeys(compiled.jobs, place, {}, Digests())
        assert before["sft"] != after["sft"], name
        assert any(weights.name in path for path in after.facts["sft"]["inputs"])


def test_digests_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftdsl.run.fingerprint.RACY", -1.0)
    file, kept = tmp_path / "file", tmp_path / "digests.json"
    file.write_text("one", encoding="utf-8")
    os.utime(file, (1, 1))
    digests = Digests(kept)
    first = digests.file(file)
    digests.save()
    facts = json.loads(kept.read_text(encoding="utf-8"))
    assert [value[3] for value in facts.values()] == [first]
    file.write_text("two", encoding="utf-8")
    assert Digests(kept).file(file) != first
    kept.write_text("[garbage", encoding="utf-8")
    assert Digests(kept).file(file) == digests.file(file)


def test_what_a_stage_made_is_known_again(tmp_path: Path) -> None:
    (tmp_path / "10-a" / "result" / "checkpoint-5").mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "checkpoint-5/optimizer.pt"):
        (tmp_path / "10-a" / "result" / name).write_text(name, encoding="utf-8")
    made = made_by(tmp_path, ["10-a/result"], Digests())
    assert sorted(made) == ["10-a/result/config.json", "10-a/result/model.safetensors"], "checkpoints come and go"
    assert damage(tmp_path, made, Digests()) == ""
    for harm in ({"10-a/result/none": [1, 2, 3, "x"]}, {"10-a/result/config.json": "garbage"}):
        assert damage(tmp_path, harm, Digests())
