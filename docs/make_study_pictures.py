"""`python docs/make_study_pictures.py RECIPE [DASHBOARD]`: docs/study-report.png, the report of a study that was carried out, and
docs/optuna-dashboard.png, the same storage in Optuna's dashboard. Both in headless Chromium.

DASHBOARD: the program (`pip install optuna-dashboard`, in whatever environment; default: the one on the path).
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

HERE = Path(__file__).parent
SECONDS = 30


def shot(address: str, target: Path, width: int, height: int) -> None:
    """A picture of a page once its scripts have drawn it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((path for name in names if (path := shutil.which(name))), None)
    assert browser, "apt-get install chromium"
    subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},{height}",
         f"--virtual-time-budget={1000 * SECONDS}", f"--screenshot={target}", address],
        check=True, capture_output=True, timeout=240,
    )  # fmt: skip


@contextmanager
def dashboard(program: str, storage: str) -> Iterator[str]:
    """The address of Optuna's dashboard over a storage."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [program, storage, "--port", str(port), "--host", "127.0.0.1"], stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(10 * SECONDS):
            with contextlib.suppress(OSError), urlopen(f"{address}/dashboard/") as answer:
                assert answer.status == 200
                break
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


def main(recipe: Path, program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ftdsl.cli.main", "search", "report", recipe.name],
        cwd=recipe.parent, check=True, capture_output=True, text=True,
    )  # fmt: skip
    page = (recipe.parent / done.stdout.strip()).resolve()
    shot(page.as_uri(), HERE / "study-report.png", 1150, 2000)
    with dashboard(program, f"sqlite:///{page.parent / 'study.db'}") as address:
        shot(f"{address}/dashboard/studies/1/", HERE / "optuna-dashboard.png", 1400, 1100)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2] if len(sys.argv) > 2 else "optuna-dashboard")
