"""Cold start of each verb against a bare interpreter, measured in one run. Aim: `ftc check` within 0.12 s."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXAMPLE = str(ROOT / "examples" / "quickstart.ft")
TIMES = 15


def measure(command: list[str], folder: Path) -> tuple[float, float]:
    """Best and median seconds."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    spent = []
    for _ in range(TIMES + 1):
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, capture_output=True, check=False, env=env)
        spent.append(time.perf_counter() - start)
    return min(spent[1:]), statistics.median(spent[1:])  # the first one may have compiled modules


def main() -> None:
    """A table: command, best, median, ratio to the bare interpreter."""
    ftc = [sys.executable, "-m", "ftdsl.cli.main"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "import lark": [sys.executable, "-c", "import lark"],
            "import pydantic": [sys.executable, "-c", "from pydantic import BaseModel"],
            "ftc --version": [*ftc, "--version"],
            "ftc check": [*ftc, "check", EXAMPLE],
            "ftc fmt --check": [*ftc, "fmt", "--check", EXAMPLE],
            "ftc graph": [*ftc, "graph", EXAMPLE],
            "ftc compile": [*ftc, "compile", EXAMPLE, "-o", str(folder / "build")],
            "ftc engine list": [*ftc, "engine", "list"],
        }
        bare = 0.0
        print(f"{'command':18} {'best ms':>8} {'median ms':>10} {'x bare':>7}")
        for name, command in commands.items():
            best, median = measure(command, folder)
            bare = bare or best
            print(f"{name:18} {best * 1000:8.0f} {median * 1000:10.0f} {best / bare:7.1f}")


if __name__ == "__main__":
    main()
