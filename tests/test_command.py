"""`ftc()` in this process does what `ftc` does in one of its own, and leaves nothing of itself behind."""

from __future__ import annotations

import gc
import os
import signal
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from ftdsl.cli import main as command_line
from ftdsl.cli.main import VERBS
from tests import command
from tests.conftest import NOWHERE, ROWS, ftc, ftc_process, small

YAML = "model_name_or_path: Qwen/Qwen3-0.6B\nstage: sft\ndo_train: true\nfinetuning_type: lora\ndataset: alpaca_en\n"
CASES = [
    ("init", ("init", "new")),
    ("import", ("import", "train.yaml")),
    ("check", ("check", "r.ft", "wrong.ft", "--json")),
    ("check", ("check", "-")),
    ("fmt", ("fmt", "--diff", "ugly.ft")),
    ("plan", ("plan", "r.ft")),
    ("compile", ("compile", "r.ft")),
    ("run", ("run", "steps.ft", "--plain")),
    ("status", ("status", "r.ft")),
    ("watch", ("watch", "r.ft")),
    ("attach", ("attach", "r.ft")),
    ("logs", ("logs", "r.ft")),
    ("cancel", ("cancel", "r.ft")),
    ("accept", ("accept", "r.ft", "sft", "--reason", "looked at")),
    ("clean", ("clean",)),
    ("doctor", ("doctor", "--target", "bash")),
    ("data", ("data", "show", "r.ft", "sft")),
    ("graph", ("graph", "r.ft")),
    ("explain", ("explain", "r.ft", "sft.optim.lr")),
    ("diff", ("diff", "r.ft", "other.ft")),
    ("upgrade", ("upgrade", "train.yaml", "--to", "transformers==5.15", "--diff")),
    ("engine", ("engine", "doctor", "--engine-python", "nowhere/python")),
    ("models", ("models", "show", "Qwen/Qwen3-8B")),
    ("measurements", ("measurements",)),
    ("diagnose", ("diagnose", "r.ft")),
    ("report", ("report", "r.ft", "--markdown")),
    ("search", ("search", "show", "r.ft")),
    ("completion", ("completion", "bash")),
    ("lsp", ("lsp", "--help")),
    ("mcp", ("mcp", "--help")),
    ("", ("--version",)),
    ("", ("chek",)),
    ("", ("run",)),
    ("", ()),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("here", "own"):
        folder = tmp_path / name
        folder.mkdir()
        files = {
            "r.ft": small("lora { rank = 8 }"),
            "other.ft": small("lora { rank = 16 }"),
            "wrong.ft": small("lora { rnak = 8 }"),
            "ugly.ft": "sft{model=hf( 'a' )}\n",
            "steps.ft": 'shell one { run = "echo ä; touch inputs/done" }\n',
            "train.yaml": YAML,
            **ROWS,
        }
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
    return tmp_path


def test_every_verb_is_compared() -> None:
    assert set(VERBS) <= {verb for verb, _ in CASES}


@pytest.mark.parametrize(("verb", "arguments"), CASES, ids=[" ".join(arguments) or "nothing" for _, arguments in CASES])
@pytest.mark.slow
def test_the_same_as_in_a_process_of_its_own(verb: str, arguments: tuple[str, ...], place: Path) -> None:
    """Exit status, both streams byte by byte, and the files that were written; each verb in a cold process."""
    env = {**NOWHERE, "COLUMNS": "90"}
    stdin = small("lora { rank = 4 }") if arguments[-1:] == ("-",) else ""
    here = ftc(*arguments, cwd=place / "here", stdin=stdin, **env)
    own = ftc_process(*arguments, cwd=place / "own", stdin=stdin, **env)
    assert here.returncode == own.returncode, own.stderr
    if verb != "run":  # says when and for how long
        assert here.stdout_bytes == own.stdout_bytes
        assert here.stderr_bytes == own.stderr_bytes
        assert (here.stdout, here.stderr) == (own.stdout, own.stderr)
    assert written(place / "here", verb) == written(place / "own", verb)


def written(folder: Path, verb: str) -> dict[str, bytes | None]:
    """Files of a folder; of runs only which there are, without their times."""
    found: dict[str, bytes | None] = {}
    for path in folder.rglob("*"):
        if path.is_file() and "runs" not in path.parts:
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
        elif path.is_file() and "last" in path.parts:
            found[path.relative_to(folder).as_posix()] = None
    assert verb != "run" or "done" in found
    return found


def _state() -> dict[str, object]:
    umask = os.umask(0)
    os.umask(umask)
    return {
        "cwd": Path.cwd(),
        "environment": dict(os.environ),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "descriptors": [os.fstat(number).st_ino for number in range(3)],
        "open": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "argv": sys.argv,
        "path": list(sys.path),
        "limit": sys.getrecursionlimit(),
        "gc": gc.isenabled(),
        "umask": umask,
        "handlers": [signal.getsignal(number) for number in command.SIGNALS],
    }


def _vandal(arguments: list[str]) -> int:
    """A `main` that changes all it can reach, and ends as its argument says."""
    os.chdir("/")
    os.environ.pop("PATH")
    os.environ["LEFT"] = "behind"
    sys.path.insert(0, "/left")
    sys.argv = ["left"]
    sys.setrecursionlimit(12_345)
    gc.disable()
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("out")
    os.write(1, b"raw\n")
    print("err", file=sys.stderr)
    assert sys.stdin.read() == "in"
    match arguments[0]:
        case "text":
            sys.exit("a sentence")
        case "nothing":
            sys.exit()
        case "raise":
            raise LookupError("out of main")
        case "close":
            sys.stdout.close()
    return int(arguments[0]) if arguments[0].isdigit() else 0


@pytest.mark.parametrize(("how", "status"), [("0", 0), ("3", 3), ("text", 1), ("nothing", 0), ("close", 0)])
def test_nothing_of_it_is_left(how: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "main", _vandal)
    before = _state()
    done = ftc(how, cwd=tmp_path, stdin="in")
    assert _state() == before
    assert done.returncode == status
    assert sorted(done.stdout.split()) == ["out", "raw"]
    assert done.stderr.splitlines() == ["err", *(["a sentence"] if how == "text" else [])]


def test_an_exception_is_let_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "main", _vandal)
    before = _state()
    with pytest.raises(LookupError, match="out of main"):
        ftc("raise", cwd=tmp_path, stdin="in")
    assert _state() == before


def test_streams_are_those_of_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(arguments: list[str]) -> int:
        assert not any(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
        assert [stream.fileno() for stream in (sys.stdin, sys.stdout, sys.stderr)] == [0, 1, 2]
        assert [stream.encoding for stream in (sys.stdout, sys.stderr)] == ["utf-8", "utf-8"]
        assert [stream.errors for stream in (sys.stdout, sys.stderr)] == ["strict", "backslashreplace"]
        os.system("echo from a child; echo its fault >&2")
        print("a\r\nb\rc\n", end="")
        return 0

    monkeypatch.setattr(command, "main", look)
    done = ftc(cwd=tmp_path)
    assert done.stdout == "from a child\na\nb\nc\n"
    assert done.stdout_bytes == b"from a child\na\r\nb\rc\n"
    assert done.stderr == "its fault\n"


@pytest.mark.parametrize("name", ["PYTHONHASHSEED", "LC_ALL", "LANG", "TZ"])
def test_what_only_a_new_process_reads_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="use ftc_process"):
        ftc("--version", cwd=tmp_path, **{name: "1"})


def test_caches_are_emptied_but_for_those_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in command.OF_THE_PACKAGE:
        import_module(f"ftdsl.{name.rpartition('.')[0]}")
    found = command.cached_functions()
    assert not command.OF_THE_PACKAGE - set(found), "a name of a function that is gone"
    kept = {name for name in found if name in command.OF_THE_PACKAGE}
    assert all(not name.startswith(("session", "storage", "environments", "plan.machine", "run.")) for name in kept)

    @cache
    def looked_up() -> str:
        return os.environ["LOOKED_UP"]

    monkeypatch.setattr(command_line, "looked_up", looked_up, raising=False)
    command._cached_functions.cache_clear()
    monkeypatch.setenv("LOOKED_UP", "before")
    assert looked_up() == "before"
    monkeypatch.setenv("LOOKED_UP", "after")
    assert ftc("--version", cwd=tmp_path).returncode == 0
    assert looked_up() == "after"


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh", "fish"])
def test_a_completion_script_knows_the_verbs(shell: str, tmp_path: Path) -> None:
    script = ftc("completion", shell, cwd=tmp_path).stdout
    assert "diagnose" in script and "engine-python" in script
