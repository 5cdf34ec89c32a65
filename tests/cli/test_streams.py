"""What reaches a terminal: no control character of a recipe, a log or a file's name; and what happens when it takes nothing."""

from __future__ import annotations

import ast
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
from rich.cells import cell_len

from ftdsl.cli.streams import PLAIN
from ftdsl.diagnostics import Diagnostic
from ftdsl.diagnostics.render_text import render
from ftdsl.observe.live import LiveView
from ftdsl.observe.plain import Plain
from ftdsl.printable import one_line, printable, with_colors
from ftdsl.source import Source, Span
from tests.command import ftc, ftc_process
from tests.conftest import ALPACA, ROOT

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


# --- encodings that lack our signs

ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NARROW = [("ascii", ASCII), ("cp1252", {"PYTHONIOENCODING": "cp1252"}), ("ascii", {"PYTHONIOENCODING": "ascii"})]
ABROAD = """\
hardware {{ gpu = none, count = 1 }}
data d {{ source = file("{rows}") }}
sft {{ model = hf("Qwen/Qwen3-0.6B"), template = qwen3, data = d, system = "你好 é", to = "öut", lora {{ }} }}
shell s {{ run = "echo grüß > 'ü.txt'; cat 'ü.txt'; {python} -c 'print(\\"→ ß\\")'" }}
"""
PRINTED = [("check",), ("check", "--json"), ("plan",), ("plan", "--json"), ("explain", "sft"), ("fmt", "--diff"), ("graph",),
           ("compile",), ("compile", "--explain"), ("run", "--only", "d"), ("status",), ("check", "--set", "sft.data=wrong"),
           ("check", "--output-format", "sarif"), ("clean",), ("diagnose",)]  # fmt: skip


@pytest.fixture
def abroad(tmp_path: Path) -> Path:
    (tmp_path / "日本.jsonl").write_text(ALPACA, encoding="utf-8")
    text = ABROAD.format(rows="日本.jsonl", python=sys.executable)
    (tmp_path / "训练.ft").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(("encoding", "env"), NARROW, ids=["C", "cp1252", "ascii"])
@pytest.mark.parametrize("arguments", PRINTED, ids=" ".join)
@pytest.mark.slow
def test_a_locale_without_our_signs(
    arguments: tuple[str, ...], encoding: str, env: dict[str, str], abroad: Path
) -> None:
    """Nothing crashes, what is printed is in that encoding, signs are plain ASCII, and JSON is JSON."""
    verb, *more = arguments
    command = [
        str(Path(sys.executable).with_name("ftc")),
        verb,
        *([] if verb in ("status", "clean") else ["训练.ft"]),
        *more,
    ]
    done = subprocess.run(command, cwd=abroad, env={**os.environ, **env}, capture_output=True, check=False, timeout=120)
    printed = (done.stdout + done.stderr).decode(encoding)
    assert "bug in ftc" not in printed and "Traceback" not in printed
    assert not re.search(r"\\\\u2[0-7]", printed), "boxes, arrows and dots are written in ASCII"
    if "--json" in more or "sarif" in more:
        json.loads(done.stdout.decode(encoding))


@pytest.mark.slow
def test_what_runs_reads_and_prints_utf_8_in_any_locale(abroad: Path) -> None:
    command = [str(Path(sys.executable).with_name("ftc")), "run", "训练.ft", "--only", "s"]
    done = subprocess.run(
        command, cwd=abroad, env={**os.environ, **ASCII}, capture_output=True, check=False, timeout=120
    )
    logs = [path.read_text(encoding="utf-8") for path in abroad.glob("runs/*/*/*-s/log.txt")]
    assert done.returncode == 0, done.stderr
    assert any("grüß" in log and "→ ß" in log for log in logs)


def test_a_formatted_recipe_is_utf_8_in_any_locale(abroad: Path) -> None:
    text = (abroad / "训练.ft").read_text(encoding="utf-8")
    command = [str(Path(sys.executable).with_name("ftc")), "fmt", "-"]
    done = subprocess.run(command, input=text.encode(), env={**os.environ, **ASCII}, capture_output=True, check=True)
    assert "你好 é" in done.stdout.decode("utf-8")


def test_every_sign_of_ours_has_a_plain_form() -> None:
    """Those in texts of the rooms that print, but for punctuation of other scripts, which is only read."""
    signs = set()
    for room in ("cli", "observe", "diagnostics", "plan", "estimate", "run", "diagnose"):
        for path in (ROOT / "ftdsl" / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    signs |= {sign for sign in node.value if ord(sign) > 0x7F}
    assert {"…", "█", "→"} <= signs
    assert {sign for sign in signs if sign not in PLAIN} <= {"\ufeff"}
    assert all(plain.isascii() and '"' not in plain and "\\" not in plain for plain in PLAIN.values())


# --- long lines

LONG = 'sft {{ model = hf("Qwen/Qwen3-0.6B"), {before}rnak = 8, {after}data = file("rows.jsonl"), lora {{ }} }}\n'


@pytest.mark.parametrize("width", [40, 60, 80, 140])
@pytest.mark.parametrize("before", [0, 3, 40, 400])
@pytest.mark.parametrize("filler", ['name = "x", ', 'name = "数数数", ', "\tseed = 1, "])
def test_a_long_line_is_cut_around_what_is_wrong(width: int, before: int, filler: str) -> None:
    source = Source("a.ft", LONG.format(before=filler * before, after=filler * 40))
    start = source.text.index("rnak")
    span = Span(source, start, start + 4)
    _, _, _, line, marks, *_ = render([Diagnostic("FT001", "no key", span, label="here")], width=width).split("\n")
    assert cell_len(line) <= width
    column = cell_len(marks[: marks.index("^")])
    assert cell_len(line[: line.index("rnak")]) == column and marks.endswith("^^^^ here")
    assert line.endswith("...") and line.startswith("1 | ...") is not line.startswith("1 | sft {")


def test_a_terminal_says_how_wide_it_is(abroad: Path) -> None:
    (abroad / "long.ft").write_text(LONG.format(before='name = "x", ' * 9, after=""), encoding="utf-8")
    parent, child = pty.openpty()
    set_columns(child, 60)
    env = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"NO_COLOR": "1", "TERM": "xterm"}
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("ftc")), "check", "long.ft"],
        cwd=abroad,
        env=env,
        stdout=child,
        stderr=child,
    )
    os.close(child)
    printed = b""
    try:
        while piece := os.read(parent, 4096):
            printed += piece
    except OSError:
        pass
    process.wait()
    lines = [line for line in printed.decode().splitlines() if line.startswith("1 | ")]
    assert lines and max(map(len, lines)) <= 60


def set_columns(terminal: int, columns: int) -> None:
    import fcntl
    import struct
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
