"""`ftc report`: a page that opens anywhere, several runs over each other, Markdown; nothing of a run becomes markup."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ftdsl.diagnose.curves import Curves, Series
from ftdsl.diagnose.examined import Training
from ftdsl.report.figures import POINTS, figure
from ftdsl.runtime import events
from tests.conftest import ftc
from tests.diagnose.runs import write

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> | `x` \u2028"
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
MOST = 6_000_000
"""Bytes of a page."""


def make_run(root: Path, run_id: str, curve: str, rate: str) -> Path:
    """A run folder as `ftc run` leaves it, with the curves of a real run."""
    folder = root / "runs" / "r" / run_id
    write(folder / "20-sft", curve, "metrics")
    stages = [{"key": key, "folder": place, "kind": kind, "title": HOSTILE, "where": "r.ft:1"}
              for key, place, kind in (("rows", "10-rows", "data"), ("sft", "20-sft", "sft"),
                                       ("after", "30-after", "eval"))]  # fmt: skip
    lines = [events.line(events.made("run", id=run_id, name="r", smoke=False, stages=stages))]
    for at, stage in enumerate(stages):
        done = {"stage": stage["key"], "status": "done", "started": 100.0 + at, "ended": 101.0 + at}
        lines.append(events.line(events.made("stage", **done)))
    (folder / "events.jsonl").write_bytes(b"".join(lines))
    (folder / "30-after").mkdir()
    gate = events.made(
        "gate", metric="rouge_l", op="at_least", value=50.0, bound=30.0, holds=True, message="rouge_l = 50 (r.ft:9)"
    )
    (folder / "30-after" / "metrics.jsonl").write_bytes(events.line(gate))
    sample = {"prompt": HOSTILE, "label": "wanted", "predict": HOSTILE}
    events.save_result(folder / "30-after", {"kind": "metrics", "metrics": {"rouge_l": 50.0}, "samples": [sample]})
    (folder / "20-sft" / "train.yaml").write_text(f"learning_rate: {rate}\nnote: '{HOSTILE}'\n", encoding="utf-8")
    manifest = {
        "recipe": "r.ft", "engine": {"name": "llamafactory", "version": "0.9.5"}, "inputs": {"rows.jsonl": "ab" * 32},
        "artifacts": {"20-sft/train.yaml": "0", "../../../secret": "0"},
        "jobs": [{"key": "rows", "needs": []}, {"key": "sft", "needs": ["rows"]}, {"key": "after", "needs": ["sft", "rows"]}],
        "stages": [{"key": "sft", "batch": "8 global = 8 micro x 1 accumulate x 1 data-parallel",
                    "values": {"optim.lr": {"value": rate, "origin": "r.ft:4"}, "seed": {"value": "1", "origin": "r.ft:2"}}}],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (root / "secret").write_text("not to be seen", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page of a sick run (one.html) and of two runs (two.html)."""
    root = tmp_path_factory.mktemp("report")
    make_run(root, "20260101-000000", "overfit/1.json", "0.004")
    make_run(root, "20260102-000000", "healthy/1.json", "0.002")
    assert ftc("report", "runs/r/20260101-000000", "-o", "one.html", cwd=root).returncode == 0
    done = ftc("report", "runs/r/20260101-000000", "runs/r/20260102-000000", "-o", "two.html", cwd=root)
    assert done.returncode == 0 and "wrote two.html" in done.stderr
    return root


def test_a_page_holds_what_is_asked_of_a_run(pages: Path) -> None:
    text = (pages / "one.html").read_text(encoding="utf-8")
    assert len(text.encode()) < MOST
    for wanted in ("FD204", "held-out loss", "8 global = 8 micro", "sha256 abab", "llamafactory 0.9.5", "rouge_l = 50",
                   "learning_rate: 0.004", "wanted", "<svg"):  # fmt: skip
        assert wanted in text, wanted
    assert "not to be seen" not in text


def test_nothing_comes_from_a_network(pages: Path) -> None:
    text = re.sub(r"<script>.*?</script>", "", (pages / "one.html").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not re.search(r"(?:src|href)=[\"'](?!#|data:)", text)


def test_text_of_a_run_is_no_markup(pages: Path) -> None:
    for name in ("one.html", "two.html"):
        text = (pages / name).read_text(encoding="utf-8")
        assert "<img" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
        assert "<script>alert" not in text


def test_two_runs_are_compared_by_meaning(pages: Path) -> None:
    text = (pages / "two.html").read_text(encoding="utf-8")
    differs = text[text.index("What differs") : text.index("Curves")]
    assert re.findall(r'<td class="break">(.*?)</td>', differs) == ["sft.optim.lr", "0.004", "0.002"]
    (data,) = re.findall(r'<script type="application/json" id="f0">(.*?)</script>', text)
    lines = json.loads(data)["data"]
    assert {line["legendgroup"] for line in lines} == {"r 20260101-000000", "r 20260102-000000"}


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 900, 1400])
@pytest.mark.parametrize("name", ["one.html", "two.html"])
def test_the_page_opens_in_a_browser(pages: Path, name: str, width: int) -> None:
    """Drawn, hovered over and zoomed, with nothing wider than the window and no error."""
    assert CHROMIUM, "these tests open a browser; type: apt-get install chromium"
    probe = """<script>addEventListener("load", () => setTimeout(() => {
      const place = document.querySelector("[data-figure]");
      Plotly.Fx.hover(place, [{ curveNumber: 0, pointNumber: 5 }]);
      Plotly.relayout(place, { "xaxis.range": [10, 20] }).then(() => {
        document.title = JSON.stringify({ drawn: document.querySelectorAll(".main-svg").length, range: place.layout.xaxis.range,
          hover: document.querySelector(".hoverlayer").textContent, over: document.documentElement.scrollWidth - innerWidth });
      });
    }, 500));</script></body>"""
    page = pages / f"probe-{name}"
    page.write_text((pages / name).read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},1200", "--virtual-time-budget=10000",
         "--enable-logging=stderr", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    found = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert found, done.stderr[-2000:]
    told = json.loads(found[1])
    assert told["drawn"] >= 2 and told["range"] == [10, 20] and told["over"] <= 0
    assert "loss" in told["hover"] or re.search(r"\d", told["hover"])
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line], done.stderr[-2000:]


def test_markdown(pages: Path) -> None:
    done = ftc("report", "runs/r/20260101-000000", "runs/r/20260102-000000", "--markdown", cwd=pages)
    assert done.returncode == 0
    assert "| key | r 20260101-000000 | r 20260102-000000 |" in done.stdout
    assert "| sft.optim.lr | 0.004 | 0.002 |" in done.stdout
    assert "(FD204)" in done.stdout and "- 20-sft: healthy" in done.stdout
    assert "<img" not in done.stdout


def test_a_model_card(pages: Path) -> None:
    import yaml

    done = ftc("report", "runs/r/20260101-000000", "--card", cwd=pages)
    assert done.returncode == 0, done.stderr
    _, head, body = done.stdout.split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["library_name"] == "transformers" and metadata["tags"] == ["ftdsl", "sft"]
    assert metadata["model-index"][0]["results"][0]["metrics"] == [{"type": "rouge_l", "value": 50.0}]
    assert "| optim.lr | 0.004 |" in body and "(FD204)" in body and "<img" not in body
    assert ftc("report", "runs/r/20260101-000000", "runs/r/20260102-000000", "--card", cwd=pages).returncode == 2


def test_what_is_no_run(tmp_path: Path) -> None:
    for arguments in (["x"], ["."], ["r.ft"]):
        done = ftc("report", *arguments, cwd=tmp_path)
        assert done.returncode == 2 and done.stderr.startswith("error: "), done.stderr


def test_a_long_line_keeps_its_spikes() -> None:
    steps = list(range(100_000))
    values = [1.0] * len(steps)
    values[54_321], values[77_777] = 9.0, float("nan")
    made = figure([("x", Training(Curves("x", Series(steps, values))))])
    line = made["data"][0]
    assert len(line["x"]) <= POINTS + 1
    assert 9.0 in line["y"] and float("nan") not in line["y"]
    json.dumps(made, allow_nan=False)
