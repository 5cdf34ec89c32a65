"""The documentation as a site, and the playground: built without a warning, no broken link, opened in Chromium."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from tests.conftest import ROOT
from tests.report.test_report import CHROMIUM

pytestmark = pytest.mark.editors
HERE = Path(__file__).parent
SITE = ROOT / "build" / "site"


class Page(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {"", "__tabbed"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attributes if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self.links += [values[name] for name in ("href", "src") if name in values and tag != "base"]


@pytest.fixture(scope="module")
def site() -> Path:
    subprocess.run([sys.executable, "-m", "docs.site.build"], cwd=ROOT, check=True, timeout=300)
    return SITE


def test_no_link_is_broken(site: Path) -> None:
    pages = {
        path: Page(path) for path in site.rglob("*.html") if path.name != "404.html" and "playground" not in path.parts
    }
    assert len(pages) > 40
    broken = []
    for path, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(link)
            if urlsplit(link).scheme:
                continue
            file = (path.parent / unquote(target)).resolve() if target else path
            if file.is_dir():
                file /= "index.html"
            if not file.exists() or (file in pages and unquote(anchor) not in pages[file].anchors):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def test_pages_and_the_playground_in_a_browser(site: Path, tmp_path: Path) -> None:
    modules = ROOT / "build" / "browser"
    modules.mkdir(parents=True, exist_ok=True)
    (modules / "site.mjs").write_bytes((HERE / "site.mjs").read_bytes())
    npm = [
        "npm",
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
        "playwright-core@1.65.1",
    ]
    subprocess.run(npm, cwd=modules, check=True, capture_output=True)
    pictures = Path(os.environ.get("FTDSL_PICTURES") or tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        command = [
            "node",
            str(modules / "site.mjs"),
            address,
            CHROMIUM,
            str(ROOT / "examples" / "quickstart.ft"),
            str(pictures),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    finally:
        server.shutdown()
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout)
    assert not seen["errors"]
    assert not seen["outside"], "nothing is fetched from elsewhere"
    assert all(page["title"] for page in seen["pages"].values())
    assert all(page["wide"] <= 1 for page in seen["pages"].values()), seen["pages"]
    assert seen["fine"] == "fine"
    (configuration,) = [text for name, text in seen["files"].items() if name.endswith("sft/train.yaml")]
    golden = (ROOT / "tests" / "golden" / "quickstart").rglob("*sft/train.yaml")
    assert "lora_rank: 16" in configuration
    assert (
        configuration.strip() == next(golden).read_text(encoding="utf-8").replace("quickstart.ft", "recipe.ft").strip()
    ), "the bytes that `ftc compile` writes"
    assert "global = 16" in seen["files"]["plan"]
    assert seen["broken"] == "errors"
    assert "FT001" in seen["message"] and "did you mean `rank`?" in seen["message"]
    assert len(seen["marked"]) == 1
