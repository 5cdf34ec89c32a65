"""The quickstart by `ftc run` against its own run.sh, and a second run that is all cached.

    python benchmarks/quickstart.py [ENGINE_PYTHON]   (default: .engines/llamafactory/bin/python; about 10 minutes)

Wall times count on a machine that does nothing else; CPU seconds are of all processes. PYTHONDONTWRITEBYTECODE is unset, as for
a user. Goals: `ftc run` at most 0.6 of run.sh, a cached run at most 0.3 s.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
FTC = [sys.executable, "-m", "ftdsl.cli.main"]


def timed(command: list[str], place: Path, env: dict[str, str]) -> tuple[float, float]:
    """Seconds by the clock, and CPU seconds of all processes that were waited for."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, check=False)
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(argv: list[str]) -> int:
    python = Path(argv[0] if argv else ROOT / ".engines" / "llamafactory" / "bin" / "python").absolute()
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env |= {"FTC_ENGINE_PYTHON": str(python), "FT_PYTHON": str(python)}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        shutil.copy(ROOT / "examples" / "quickstart.ft", place)
        shutil.copytree(ROOT / "examples" / "data", place / "data")
        timed([*FTC, "compile", "quickstart.ft"], place, env)
        by_hand = timed(["bash", "build/quickstart/run.sh", "by-hand"], place, env)
        by_ftc = timed([*FTC, "run", "quickstart.ft", "--foreground", "--plain"], place, env)
        cached = [timed([*FTC, "run", "quickstart.ft", "--plain"], place, env) for _ in range(5)]
        print(f"run.sh           {by_hand[0]:7.1f} s   {by_hand[1]:7.1f} s CPU")
        share = by_ftc[0] / by_hand[0]
        print(f"ftc run          {by_ftc[0]:7.1f} s   {by_ftc[1]:7.1f} s CPU   {share:.2f} of run.sh (goal 0.60)")
        best, cpu = (min(run[at] for run in cached) for at in (0, 1))
        print(f"ftc run, cached  {best:7.2f} s   {cpu:7.2f} s CPU (goal 0.30 s)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
