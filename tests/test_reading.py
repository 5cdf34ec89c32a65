"""What is no regular file is never waited for, wherever a path to it comes from: the reader says so, at once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftdsl.observe.metrics import Tail, read_result
from ftdsl.run.launchers.log import last_lines
from ftdsl.run.store import load
from ftdsl.session import LIMIT, Files, NotRegularError, Session, TooLargeError, open_regular, read_bytes, read_json
from ftdsl.targets import lock
from tests.command import ftc_forked

TRAIN = "stage: sft\ndo_train: true\nmodel_name_or_path: model\ntemplate: qwen3\noutput_dir: out\nbf16: true\ndataset: rows\n"
RECIPE = "sft {{ model = {model}, data = {data}, template = qwen3, lora {{}} }}\n"


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def huge(path: Path) -> None:
    with path.open("wb") as handle:
        handle.truncate(1 << 32)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


STRANGE: dict[str, Callable[[Path], None]] = {
    "fifo": fifo,
    "device": device,
    "socket": bound,
    "huge": huge,
    "loop": loop,
    "folder": Path.mkdir,
}
MESSAGES = ("it is not a regular file", "it is a folder", "megabytes", "too many levels of symbolic links")


@pytest.fixture(params=STRANGE, autouse=True)
def strange(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Path]]:
    """Makes what is no text at a path."""
    monkeypatch.chdir(tmp_path)

    def make(name: str) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        STRANGE[request.param](path)
        return path

    yield make


def ftc(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command; what waits for a pipe fails here."""
    return ftc_forked(*arguments, cwd=Path.cwd())


def test_the_door_opens_to_regular_files_only(strange: Callable[[str], Path]) -> None:
    path, files = strange("x"), Files()
    for read in (read_bytes, read_json, files.text, files.json):
        with pytest.raises(OSError):
            read(path)
    assert files.trouble(path)
    if files.is_file(path):
        with pytest.raises(TooLargeError):
            read_bytes(path)
        return
    for other in (open_regular, files.sha256, files.lines, files.size, lambda one: files.head(one, 10)):
        with pytest.raises(OSError):
            other(path)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("ds.json", {"train.yaml": f"{TRAIN}deepspeed: ds.json\n"}),
        ("data/dataset_info.json", {"train.yaml": TRAIN}),
        ("model/config.json", {"train.yaml": TRAIN}),
        ("adapter/adapter_config.json", {"train.yaml": f"{TRAIN}adapter_name_or_path: adapter\n"}),
        (
            "acc.yaml",
            {
                "train.sh": "accelerate launch --config_file acc.yaml src/train.py --stage sft --model_name_or_path a/b\n"
            },
        ),
        ("other.yaml", {"train.sh": "llamafactory-cli train other.yaml\n"}),
        (
            "ds.json",
            {"train.yaml": "distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_config_file: ds.json}\n"},
        ),
        ("train.yaml", {"x.txt": ""}),
        ("train.sh", {"x.txt": ""}),
    ],
)
@pytest.mark.parametrize("verb", ["check", "import"])
@pytest.mark.slow
def test_files_that_configurations_name(
    verb: str, name: str, files: dict[str, str], strange: Callable[[str], Path]
) -> None:
    strange(name)
    for other, content in files.items():
        Path(other).write_text(content, encoding="utf-8")
    done = ftc(verb, next(one for one in ("train.yaml", "train.sh") if os.path.lexists(one)))
    assert done.returncode == 1
    assert any(message in done.stdout + done.stderr for message in (*MESSAGES, "there is no recipe")), (
        done.stdout + done.stderr
    )
    assert "bug" not in done.stderr


@pytest.mark.parametrize(
    "verb", [("check",), ("plan",), ("compile", "-o", "out"), ("fmt", "--check"), ("check", "--fix"), ("graph",)]
)
def test_recipes(verb: tuple[str, ...], strange: Callable[[str], Path]) -> None:
    strange("recipe.ft")
    done = ftc(verb[0], "recipe.ft", *verb[1:])
    assert done.returncode in (1, 2)
    assert "bug" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["model/config.json", "rows.jsonl", "recipe.lock"])
@pytest.mark.slow
def test_what_recipes_name(name: str, strange: Callable[[str], Path]) -> None:
    strange(name)
    Path("model").mkdir(exist_ok=True)
    data = 'file("rows.jsonl")' if name == "rows.jsonl" else 'hf("a/b")'
    Path("recipe.ft").write_text(RECIPE.format(model='file("model")', data=data), encoding="utf-8")
    for verb in (("check",), ("plan",)):
        done = ftc(*verb, "recipe.ft")
        assert "bug" not in done.stderr
        assert "Traceback" not in done.stderr


def test_what_runs_leave(strange: Callable[[str], Path]) -> None:
    for name in ("state.json", "result.json", "metrics.jsonl", "log.txt"):
        strange(f"run/{name}")
    assert load(Path("run")) is None
    assert read_result(Path("run")) is None
    if not Path("run/metrics.jsonl").is_file():
        assert Tail(Path("run/metrics.jsonl")).read() == []
        assert last_lines(Path("run/log.txt")) == []


def test_a_lock_that_cannot_be_read_differs_from_all(strange: Callable[[str], Path]) -> None:
    found = lock.read(strange("recipe.lock"), Session())
    assert found is not None
    assert found.pins == {"": ""}


class TestTexts:
    """Regular files with strange content or names."""

    @pytest.fixture(autouse=True)
    def strange(self) -> None:
        """None here."""

    def test_a_text_up_to_the_limit(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"a" * 100)
        assert Files().text(tmp_path / "x", 100) == "a" * 100
        with pytest.raises(TooLargeError):
            Files().text(tmp_path / "x", 99)
        assert LIMIT >= 1 << 24

    @pytest.mark.parametrize("name", ["a\0b", "x" * 300, "\ud800", "a/\0", "~nobody\0"])
    def test_names_that_nothing_has(self, name: str) -> None:
        files, path = Files(), Path(name)
        assert not (files.exists(path) or files.is_file(path) or files.is_dir(path) or files.glob(Path(), name))
        for read in (files.text, files.sha256, files.size, files.lines):
            with pytest.raises(OSError):
                read(path)

    @pytest.mark.parametrize("pattern", ["a**b", "", "/x", "**/**/x", "[", "***"])
    def test_patterns_that_are_none(self, pattern: str, tmp_path: Path) -> None:
        assert isinstance(Files().glob(tmp_path, pattern), list)

    @pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "{", ""])
    def test_json_that_is_none_is_a_value_error(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "x.json").write_text(text, encoding="utf-8")
        for read in (read_json, Files().json):
            with pytest.raises(ValueError):
                read(tmp_path / "x.json")

    def test_a_pipe_is_not_opened(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "x")
        with pytest.raises(NotRegularError):
            open_regular(tmp_path / "x")

    def test_an_unsaved_text_wins(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "x")
        files = Files({tmp_path / "x": "text"})
        assert files.text(tmp_path / "x") == "text"
        assert files.is_file(tmp_path / "x")

    def test_what_is_no_utf8_is_a_diagnostic(self, tmp_path: Path) -> None:
        (tmp_path / "x.yaml").write_bytes(b"\xff")
        command = [sys.executable, "-m", "ftdsl.cli.main", "check", "--json", "x.yaml", "-"]
        done = subprocess.run(command, cwd=tmp_path, input=b"\xff", capture_output=True, check=False)
        codes = [one["code"] for one in json.loads(done.stdout)["diagnostics"]]
        assert sorted(codes) == ["FT050", "FT501"]
