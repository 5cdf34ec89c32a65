"""Code that nobody has read: counted, limited, and kept from everything outside, by trying to break out."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from ftdsl.runtime import sandbox
from ftdsl.runtime.sandbox import Limits

SHORT = Limits(seconds=1.0)


def test_share_of_tests_that_pass() -> None:
    verdict = sandbox.check(
        "def f(x): return x + 1", ["assert f(1) == 2", "assert f(1) == 3", "f(", "assert f(2) == 3"]
    )
    assert verdict.passed == (True, False, False, True)
    assert verdict.share == 0.5
    assert sandbox.check("x = 1", []).share == 0


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("while True: pass", "1 s"),
        ("import time; time.sleep(60)", "ran longer than 1 s"),
        ("import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))\nwhile True: pass", "1 s"),
        ("x = bytearray(3 << 30)", "MemoryError"),
        ("x = [0]\nwhile True: x += x", "MemoryError"),
        ("open('a', 'wb').write(b'x' * (5 << 20))", "File too large"),
        ("files = [open('a', 'w') for _ in range(200)]", "Too many open files"),
        ("def f(): f()\nf()", "RecursionError"),
        ("1 / 0", "ZeroDivisionError"),
        ("def f(:", "SyntaxError"),
        ("import sys; sys.exit(0)", "SystemExit"),
        ("import os; os._exit(0)", ""),
        ("import os\nfor at in range(3, 64):\n  try: os.write(at, b'x 0\\n')\n  except OSError: pass\nos._exit(0)", ""),
    ],
    ids=lambda value: value[:30],
)
@pytest.mark.slow
def test_what_goes_too_far_passes_nothing(code: str, error: str) -> None:
    start = time.monotonic()
    verdict = sandbox.check(code, ["pass"], SHORT)
    assert verdict.share == 0
    assert error in verdict.error
    assert time.monotonic() - start < 8


@pytest.mark.slow
def test_fork_bomb_is_bounded() -> None:
    """Refused at its first fork where seccomp can; ended with all its children otherwise."""
    before = _processes()
    start = time.monotonic()
    assert sandbox.check("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass", ["pass"], SHORT).share == 0
    assert time.monotonic() - start < 8
    assert _processes() - before < 20


def _processes() -> int:
    return sum(path.name.isdigit() for path in Path("/proc").glob("*"))


@pytest.mark.slow
def test_timeout_in_a_test_keeps_what_passed_before() -> None:
    verdict = sandbox.check("", ["pass", "while True: pass", "pass"], SHORT)
    assert verdict.passed == (True, False, False)
    assert verdict.error


@pytest.mark.slow
def test_nothing_outside_is_reached(tmp_path: Path) -> None:
    target = tmp_path / "yours.txt"
    target.write_text("yours")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        codes = {
            "write": f"open({str(target)!r}, 'w').write('mine')",
            "new": f"open({str(tmp_path / 'new')!r}, 'w')",
            "remove": f"import os; os.remove({str(target)!r})",
            "rename": f"import os; os.rename({str(target)!r}, 'here')",
            "link": f"import os; os.symlink({str(target)!r}, 'link'); open('link').read()",
            "read": f"open({str(target)!r}).read()",
            "connect": f"import socket; socket.create_connection({address!r})",
            "program": "import subprocess; subprocess.run(['true'], check=True)",
            "system": "import os; assert os.system('true') == 0",
            "kill": f"import os; os.kill({os.getpid()}, 0)",
            "exec": "import os; os.execv('/bin/true', ['true'])",
        }
        verdicts = dict(zip(codes, sandbox.check_all([(code, ["pass"]) for code in codes.values()]), strict=True))
    assert [name for name, verdict in verdicts.items() if verdict.share] == []
    assert target.read_text() == "yours"
    assert [path.name for path in tmp_path.iterdir()] == ["yours.txt"]


def test_everything_is_in_force_here() -> None:
    assert sandbox.missing() == ()


def test_what_ordinary_code_needs() -> None:
    code = """
import collections, decimal, heapq, itertools, json, math, re, threading
with open("note.txt", "w") as file: file.write("hi")
done = []
thread = threading.Thread(target=done.append, args=(1,)); thread.start(); thread.join()
"""
    assert sandbox.check(code, ["assert open('note.txt').read() == 'hi'", "assert done == [1]"]).share == 1


def test_environment_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hidden")
    assert sandbox.check("import os", ["assert 'HF_TOKEN' not in os.environ"]).share == 1


def test_folder_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sandbox.check("open('a', 'w').write('x')", ["pass"])
    assert list(tmp_path.iterdir()) == []
