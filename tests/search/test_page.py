"""The report of a study, opened in a browser: drawn, without an error, each trial linked to its run."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ftc
from tests.report.test_report import CHROMIUM
from tests.search import toy
from tests.search.toy import recipe, run, trials, write

pytestmark = pytest.mark.slow


def test_the_report_opens_in_a_browser(tmp_path: Path) -> None:
    assert CHROMIUM, "these tests open a browser; type: apt-get install chromium"
    write(tmp_path, recipe("trials = 6, sampler = random", toy.STEPS.replace("PAUSE", "0")))
    done = run(tmp_path)
    page = tmp_path / ftc("search", "report", "s.ft", cwd=tmp_path).stdout.strip()
    opened = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--enable-logging=stderr",
         "--dump-dom", page.resolve().as_uri()],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert not [line for line in opened.stderr.splitlines() if "CONSOLE" in line and "rror" in line], opened.stderr[
        -2000:
    ]
    titles = re.findall(r"<h2>(.*?)</h2>", opened.stdout)
    assert [title.partition(" ")[0] for title in titles] == ["History", "Slices", "Importances", "Parallel", "Curves"]
    assert opened.stdout.count("main-svg") >= len(titles), "each is drawn"
    links = re.findall(r'<a href="(\d{4}/[^"]+)"', opened.stdout)
    assert len(links) == len(trials(done)) == 6 and all((page.parent / link).is_dir() for link in links)
