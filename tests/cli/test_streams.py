"""What reaches a terminal: no control character of a recipe, a log or a file's name; and what happens when it takes nothing."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ftdsl.observe.live import LiveView
from ftdsl.observe.plain import Plain
from ftdsl.printable import one_line, printable, with_colors
from tests.command import ftc, ftc_process
from tests.conftest import ALPACA

EVIL = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \u202egnp.exe \x08\x08 \x7f \u2028 \x00".replace("\x00", "")
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
RECIPE = """\
## {evil}
let x = "{evil}"
env {{ E = "{evil}" }}
data rows {{ source = file("rows.jsonl") }}
sft {{
  model = hf("Qwen/Qwen3-0.6B")
  data = rows
  system = "{evil}"
  unknown_{n} = 1
  lora {{ targets = ["{evil}"] }}
}}
shell s {{ run = "echo '{evil}'; exit 3" }} # {evil}
"""


def wrong(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Control characters in what was printed, each with what is around it."""
    text = done.stdout + done.stderr
    return [text[max(0, m.start() - 20) : m.end() + 20] for m in UNSAFE.finditer(text)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    good = RECIPE.replace("  unknown_{n} = 1\n", "").replace('  lora {{ targets = ["{evil}"] }}\n', "  lora {{}}\n")
    (tmp_path / "good.ft").write_text(good.format(evil=EVIL), encoding="utf-8")
    (tmp_path / "bad.ft").write_text(RECIPE.format(evil=EVIL, n=1), encoding="utf-8")
    (tmp_path / "broken.ft").write_text(f'sft {{ "{EVIL}" 3 \n {EVIL} }}', encoding="utf-8")
    (tmp_path / "a.yaml").write_text(
        f'stage: sft\n"{json.dumps(EVIL)[1:-1]}": 1\ntemplate: {json.dumps(EVIL)}\nmodel_name_or_path: a/b\n',
        encoding="utf-8",
    )
    return tmp_path


VERBS = [
    ("check", "FILE"), ("check", "FILE", "--output-format", "github"), ("check", "FILE", "--json"),
    ("check", "FILE", "--output-format", "sarif"), ("check", "FILE", "--diff", "--unsafe-fixes"), ("plan", "FILE"),
    ("plan", "FILE", "--json"), ("explain", "FILE"), ("explain", "FILE", "--json"), ("explain", "FILE", "sft"),
    ("explain", "FILE", "sft.system"), ("explain", "FILE", "s"), ("explain", "FILE", EVIL), ("diff", "FILE", "good.ft"),
    ("diff", "FILE", "good.ft", "--json"), ("graph", "FILE"), ("graph", "FILE", "--format", "svg"),
    ("graph", "FILE", "--format", "dot"), ("graph", "FILE", "--format", "json"), ("compile", "FILE"),
    ("compile", "FILE", "--json"),
    ("fmt", "--check", "FILE"), ("fmt", "--diff", "FILE"), ("fmt", "FILE"), ("upgrade", "FILE", "--to", "transformers==5.15"),
    ("upgrade", "FILE", "--to", "transformers==5.15", "--diff"), ("import", "a.yaml"), ("import", "a.yaml", "--json"),
    ("run", "FILE", "--only", "s"), ("run", "FILE", "--only", "s", "--json"), 
    ("run", "FILE", "--output-format", "github", "--only", "s"),
    ("run", "FILE", "--only", EVIL), ("check", EVIL), ("fmt", EVIL), ("init", EVIL), ("engine", EVIL), (EVIL,),
    ("check", "FILE", "--set", EVIL), ("check", "FILE", "--profile", EVIL), ("check", "FILE", "-p", f"{EVIL}=1"),
]  # fmt: skip


@pytest.mark.parametrize("arguments", VERBS, ids=lambda arguments: one_line(" ".join(arguments))[:40])
@pytest.mark.parametrize("name", ["good.ft", "bad.ft", "broken.ft", "a.yaml"])
@pytest.mark.slow
def test_no_verb_passes_a_control_character_on(name: str, arguments: tuple[str, ...], place: Path) -> None:
    done = ftc(*(name if part == "FILE" else part for part in arguments), cwd=place)
    assert not wrong(done)
    assert "bug" not in done.stderr
    if "--json" in arguments and done.stdout.startswith(("{", "[")):
        json.loads(done.stdout)


@pytest.mark.parametrize(
    "verb", ["check", "fmt", "plan", "compile", "explain", "graph", "run", "upgrade", "import", "diff"]
)
def test_nor_one_of_a_files_name(verb: str, place: Path) -> None:
    name = f"{EVIL}\n::error::forged.ft".replace("/", "")
    (place / name).write_text('shell s { run = "true" }\n', encoding="utf-8")
    more = {"upgrade": ("--to", "transformers==5.15"), "diff": ("good.ft",)}.get(verb, ())
    done = ftc(verb, name, *more, cwd=place)
    assert not wrong(done)
    if verb in ("check", "fmt"):
        assert not re.search("^::error::forged", done.stdout + done.stderr, re.MULTILINE)


@pytest.mark.slow
def test_a_name_that_is_no_text(place: Path) -> None:
    raw = os.fsdecode(b"a\xff\x1b[31m.ft")
    (place / raw).write_text('shell s { run = "true", x = 1 }\n', encoding="utf-8")
    for arguments in (
        ("check", "."),
        ("check", ".", "--json"),
        ("check", ".", "--output-format", "github"),
        ("fmt", "--check"),
    ):
        done = ftc_process(*arguments, cwd=place, PYTHONIOENCODING="utf-8")
        assert "bug" not in done.stderr
        assert not wrong(done)


def test_what_is_read_back_is_the_same(place: Path) -> None:
    """JSON escapes what may hurt, and says the same; a formatted recipe goes through a pipe as it is."""
    done = ftc("check", "bad.ft", "--json", cwd=place)
    found = json.loads(done.stdout)["diagnostics"]
    assert any("unknown_1" in one["message"] for one in found)
    assert any(
        EVIL.split("\u2028")[0] in one["message"]
        for one in json.loads(ftc("check", EVIL, "--json", cwd=place).stdout)["diagnostics"]
    )
    text = 'sft { system = "' + EVIL + '" }\n'
    assert ftc("fmt", "-", cwd=place, stdin=text).stdout_bytes.decode() == text


@pytest.mark.parametrize("columns", ["40", "200"])
@pytest.mark.slow
def test_on_a_terminal_only_colours_are_set(columns: str, place: Path) -> None:
    for arguments in (
        ["check", "bad.ft"],
        ["plan", "good.ft"],
        ["explain", "good.ft", "sft"],
        ["run", "good.ft", "--only", "s"],
    ):
        shown = on_a_terminal(place, arguments, columns)
        rest = re.sub(r"\x1b\[[0-9;]*m", "", shown) if arguments[0] != "run" else drawn(shown)
        assert not UNSAFE.search(rest.replace("\r\n", "\n")), rest
        assert "title" in shown or arguments[0] in ("plan", "check")
        assert "\x1b[31mred" not in shown


def drawn(shown: str) -> str:
    """Less what a live view itself does: colours, lines up, lines erased, the cursor hidden."""
    return re.sub(r"\x1b\[(?:[0-9;]*m|\d*A|2K|\?25[lh])|\r", "", shown)


def on_a_terminal(cwd: Path, arguments: list[str], columns: str) -> str:
    main, other = pty.openpty()
    env = {**os.environ, "COLUMNS": columns, "TERM": "xterm-256color"}
    env.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "ftdsl.cli.main", *arguments]
    shown = b""
    with subprocess.Popen(command, cwd=cwd, stdin=other, stdout=other, stderr=other, env=env, close_fds=True):
        os.close(other)
        while True:
            try:
                chunk = os.read(main, 65536)
            except OSError:
                break
            if not chunk:
                break
            shown += chunk
    os.close(main)
    return shown.decode("utf-8", "replace")


def test_live_and_plain_views() -> None:
    from ftdsl.observe.progress import RunProgress, StageProgress, Status

    out = io.StringIO()
    stages = []
    for status in Status:
        stage = StageProgress(f"s{status}", f"10-{EVIL}", "sft", EVIL, status=status)
        stage.log_line = stage.message = stage.what = EVIL
        stage.notes = [EVIL]
        stages.append(stage)
    run = RunProgress(EVIL, "id", Path(EVIL), tuple(stages))
    plain = Plain(out)
    plain.note(EVIL)
    plain.begin(run, time.time())
    plain.end(run, time.time())
    view = LiveView()
    view.console.file = out
    view.note(EVIL)
    view.console.print(view._drawn(run, time.time()))
    assert "title" in out.getvalue()
    assert not UNSAFE.search(out.getvalue())


@pytest.mark.parametrize("text", [EVIL, "a\rb", "\ud800", "a\r\nb", "é 日本 \t ok\n", "👩‍🔬"])
def test_what_is_written_out_can_be_told(text: str) -> None:
    assert not UNSAFE.search(printable(text).replace("\r\n", ""))
    printable(text).encode()
    assert "\n" not in one_line(text)
    assert printable("é 日本 \t ok\r\n👩‍🔬") == "é 日本 \t ok\r\n👩‍🔬"
    assert with_colors("\x1b[1;31mred\x1b[0m \x1b[2J") == "\x1b[1;31mred\x1b[0m \\x1b[2J"
    assert json.loads(printable(json.dumps({"a": text}, ensure_ascii=False))) == {"a": text}


CLOSING = {
    "check": ("check", "good.ft"),
    "plan": ("plan", "good.ft"),
    "explain": ("explain", "good.ft"),
    "compile": ("compile", "good.ft"),
    "graph": ("graph", "good.ft"),
    "fmt": ("fmt", "-"),
    "import": ("import", "a.yaml"),
    "help": ("--help",),
    "version": ("--version",),
    "json": ("check", "good.ft", "--json"),
    "completion": ("completion", "bash"),
}


def shell(place: Path, arguments: tuple[str, ...], redirection: str) -> subprocess.CompletedProcess[str]:
    command = f'"{sys.executable}" -m ftdsl.cli.main "$@" {redirection}'
    return subprocess.run(
        ["bash", "-c", command, "ftc", *arguments],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        input='shell s { run = "true" }\n',
    )


@pytest.mark.parametrize("what", CLOSING)
@pytest.mark.slow
def test_a_full_disk_is_a_sentence(what: str, place: Path) -> None:
    done = shell(place, CLOSING[what], "> /dev/full")
    assert done.returncode == 1, done.stderr
    assert "error: stdout: no space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "bug" not in done.stderr


@pytest.mark.parametrize("what", CLOSING)
@pytest.mark.slow
def test_a_closed_stdout_is_a_sentence(what: str, place: Path) -> None:
    done = shell(place, CLOSING[what], ">&-")
    assert "error: stdout is closed" in done.stderr
    assert done.returncode == 1
    assert "bug" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "redirection", ["> /dev/full", ">&-", "2> /dev/full", "2>&-", "<&-", ">&- 2>&- <&-", "> /dev/full 2>&1"]
)
@pytest.mark.slow
def test_a_run_is_carried_out_whatever_the_streams_take(redirection: str, place: Path) -> None:
    (place / "r.ft").write_text('shell s { run = "echo hello > out.txt", outputs = ["out.txt"] }\n', encoding="utf-8")
    done = shell(place, ("run", "r.ft", "--plain"), redirection)
    assert "bug" not in done.stderr
    assert (place / "runs" / "r" / "last" / "out.txt").read_text(encoding="utf-8") == "hello\n"
    assert (place / "runs" / "r" / "last" / "10-s" / "done").exists()
    closes = ">&-" in redirection.replace("2>&-", "") or redirection.startswith("> /dev/full")
    assert done.returncode == int(closes), done.stderr


def test_a_closed_stream_is_no_files_place(place: Path) -> None:
    """With stdout closed, the next file to be opened would get its number, and what is printed."""
    done = shell(place, ("compile", "good.ft", "--no-data"), ">&- 2>&- <&-")
    assert done.returncode == 1
    for path in (place / "build").rglob("*"):
        if path.suffix in (".json", ".sh") and "runtime" not in path.parts:
            assert b"error:" not in path.read_bytes()
            assert b"next:" not in path.read_bytes()


def test_a_pipe_that_closes_is_no_error(place: Path) -> None:
    done = shell(place, ("explain", "good.ft"), "| head -1")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "bug" not in done.stderr
