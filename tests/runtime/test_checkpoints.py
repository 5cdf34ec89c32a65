"""Checkpoints that were broken off or damaged are set aside; places belong to who wrote them; a loss's mean is of all steps."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdsl.runtime import checkpoints, events, judges, retry
from ftdsl.runtime.checkpoints import TakenError, claim, damage, newest_first, seal, set_broken_aside
from ftdsl.runtime.training import learning_curve, losses_of

FILES = (
    "adapter_model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
    "deep/shard_0.pt",
)


def checkpoint(output: Path, step: int, *, sealed: bool = True) -> Path:
    folder = output / f"checkpoint-{step}"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name} of step {step}", encoding="utf-8")
    if sealed:
        seal(folder)
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", [cut, flip, Path.unlink], ids=["cut", "flipped", "gone"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(
    name: str, harm: Callable[[Path], None], tmp_path: Path
) -> None:
    for step in (25, 50, 75):
        checkpoint(tmp_path, step)
    assert set_broken_aside(tmp_path) == []
    harm(tmp_path / "checkpoint-75" / name)
    ((aside, why),) = set_broken_aside(tmp_path)
    assert aside.name == "broken-checkpoint-75" and name in why
    assert [path.name for path in newest_first(tmp_path)] == ["checkpoint-50", "checkpoint-25"]


def test_one_that_was_broken_off_has_no_seal(tmp_path: Path) -> None:
    checkpoint(tmp_path, 50)
    checkpoint(tmp_path, 75, sealed=False)
    (tmp_path / "checkpoint-100").mkdir()
    assert [aside.name for aside, _ in set_broken_aside(tmp_path)] == ["broken-checkpoint-100", "broken-checkpoint-75"]
    checkpoint(tmp_path, 75, sealed=False)
    assert [aside.name for aside, _ in set_broken_aside(tmp_path)] == ["broken-checkpoint-75-2"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"files": 3}', '{"files": {"a": 1}}'])
def test_a_seal_of_any_shape(content: str, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 5)
    (folder / checkpoints.SEAL).write_text(content, encoding="utf-8")
    assert damage(folder)


def test_large_ones_are_sealed_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "HASHED", 5)
    folder = checkpoint(tmp_path, 5)
    assert damage(folder) == ""
    cut(folder / "optimizer.pt")
    assert "optimizer.pt has" in damage(folder)


def test_what_is_added_later_is_sealed_too(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 5)
    assert not checkpoints.changed_since(folder)
    (folder / "value_head.safetensors").write_text("added", encoding="utf-8")
    os.utime(folder / "value_head.safetensors", (2e9, 2e9))
    assert checkpoints.changed_since(folder)
    assert not checkpoints.changed_since(tmp_path / "none")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTC_STAGE_KEY", "key-1")
    Path("20-sft").mkdir()
    return "20-sft"


@pytest.mark.parametrize("place", ["20-sft/result", "out/m"])
def test_a_stage_keeps_its_own_checkpoints(place: str, stage: str) -> None:
    output = Path(place)
    assert claim(output, stage) is None
    checkpoint(output, 5)
    assert claim(output, stage) is None and newest_first(output), "it resumes"
    shutil.rmtree(output / "checkpoint-5")
    (output / "model.safetensors").touch()
    assert claim(output, stage) == output.with_name(f"{output.name}.before-1"), "a result is not written over"


@pytest.mark.parametrize("place", ["20-sft/result", "out/m"])
def test_what_another_variant_left_is_never_resumed(place: str, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    output = Path(place)
    for number in (1, 2, 3):
        monkeypatch.setenv("FTC_STAGE_KEY", f"key-{number}")
        aside = claim(output, stage)
        assert (aside.name if aside else "") == (f"{output.name}.before-{number - 1}" if number > 1 else "")
        assert not newest_first(output)
        checkpoint(output, 5)


def test_what_no_stage_has_made_is_not_moved(stage: str) -> None:
    data = Path("data")
    data.mkdir()
    claim(data, stage)  # an empty folder may be used
    shutil.rmtree(data)
    data.mkdir()
    (data / "rows.jsonl").touch()
    with pytest.raises(TakenError, match="data is there already"):
        claim(data, stage)
    assert (data / "rows.jsonl").exists() and not list(Path().glob("data.before*"))


def test_what_a_running_stage_writes_is_not_moved(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two recipes, or two variants side by side, with one destination."""
    output = Path("out/m")
    monkeypatch.setenv("FTC_STAGE_KEY", "key-1")
    monkeypatch.setenv("FTC_STAGE_ID", "first")
    claim(output, stage)
    writer = subprocess.Popen(["sleep", "60"], env={**os.environ, "FTC_STAGE_ID": "first"})
    checkpoint(output, 5)
    claim(output, stage)  # a restart within the same start
    monkeypatch.setenv("FTC_STAGE_KEY", "key-2")
    monkeypatch.setenv("FTC_STAGE_ID", "second")
    with pytest.raises(TakenError, match=f"still runs .process {writer.pid}"):
        claim(output, stage)
    assert newest_first(output) and not list(output.parent.glob("*.before*"))
    writer.kill()
    writer.wait()
    assert claim(output, stage) == Path("out/m.before-1")


def test_a_mark_names_no_folder_of_this_machine(stage: str) -> None:
    claim(Path("out"), stage)
    assert str(Path.cwd()) not in (Path("out") / checkpoints.MARKER).read_text(encoding="utf-8")


def test_a_retry_looks_too(stage: str) -> None:
    checkpoint(Path(stage, "result"), 5)
    broken = checkpoint(Path(stage, "result"), 10, sealed=False)
    Path(stage, "stage.json").write_text(json.dumps({"output": f"{stage}/result"}), encoding="utf-8")
    assert [why for _, why in retry.set_broken_aside(stage)] == ["it was not finished"]
    assert not broken.exists()
    assert retry.set_broken_aside("nowhere") == []


def steps(path: Path, start: int, losses: dict[int, float]) -> None:
    events.append(path, "start", stage="s", step=start)
    for step, loss in losses.items():
        events.append(path, "step", step=step, loss=loss)


@pytest.mark.parametrize("every", [1, 2, 5])
@pytest.mark.parametrize("stop", [5, 10, 15])
def test_the_mean_loss_of_a_resumed_training_is_of_all_steps(every: int, stop: int, tmp_path: Path) -> None:
    """The engine's own is of the steps since the resume, over all: `best(…, lowest(train_loss))` chose the wrong run."""
    losses = {step: 4.0 - 0.1 * step for step in range(1, 21)}

    def logged(first: int, last: int) -> dict[int, float]:
        at = [step for step in range(first + 1, last + 1) if step % every == 0]
        begins = [first, *at]
        return {
            step: sum(losses[n] for n in range(begin + 1, step + 1)) / (step - begin)
            for begin, step in zip(begins, at, strict=False)
        }

    path = tmp_path / events.METRICS
    events.append(path, "attempt")
    steps(path, 0, logged(0, min(20, stop + 3)))  # it went a little further than its last checkpoint
    events.append(path, "attempt")
    steps(path, stop, logged(stop, 20))
    engines = sum(losses[step] for step in range(stop + 1, 21)) / 20
    found = losses_of(str(tmp_path), engines)
    exact = sum(losses.values()) / 20
    assert found["train_loss"] == pytest.approx(exact, rel=0.03 if stop % every else 1e-9)
    assert found["first_loss"] == pytest.approx(logged(0, 20)[every])
    curve, _, resumed = learning_curve(events.read(path))
    assert resumed and [step for step, _ in curve] == sorted({step for step, _ in curve}), "each step once"


def test_without_a_resume_the_engines_own_counts(tmp_path: Path) -> None:
    path = tmp_path / events.METRICS
    steps(path, 0, {1: 2.0})
    events.append(path, "attempt")
    steps(path, 0, {1: 3.0, 2: 1.0})
    assert losses_of(str(tmp_path), 1.9) == {"first_loss": 3.0, "last_loss": 1.0, "train_loss": 1.9}
    assert losses_of(str(tmp_path / "none"), None) == {}


@pytest.mark.parametrize(
    ("first", "last", "resume", "fine"), [(5, 5, "ck", False), (5, 6, "ck", True), (5, 5, None, True)]
)
def test_zero_steps_are_never_done(first: int, last: int, resume: str | None, fine: bool) -> None:
    """Of a checkpoint the recipe names; a stage's own may be its last, when it broke off while its result was written."""
    verdict = judges.trained(first, last, resume)
    assert (verdict is None) == fine
