"""tests/corpus/46_pipeline.ft with toys, on a CPU: data, sft, dpo, benchmarks, gate, merge, quantise; a push without a token."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdsl.environments import folder_of, python_in
from tests.command import ftc_process
from tests.conftest import ROOT

pytestmark = pytest.mark.tools

CITIES = {"Italy": "Rome", "Norway": "Oslo", "France": "Paris", "Kenya": "Nairobi", "Japan": "Tokyo", "Peru": "Lima",
          "Cuba": "Havana", "Egypt": "Cairo"}  # fmt: skip
ASKED = ("What is the capital of {}?", "Name the capital of {}.", "{}: what is its capital?", "Capital of {}, please.")
TASK = """
task: capitals
dataset_path: json
dataset_kwargs: {data_files: {test: capitals.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


def _lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _project(folder: Path) -> None:
    """The corpus' recipe, toys.ft, and small data."""
    for path in (ROOT / "tests/corpus/46_pipeline.ft", ROOT / "tests/corpus/profiles.ft", ROOT / "tests/tools/toys.ft"):
        shutil.copy(path, folder)
    (folder / "data/chats").mkdir(parents=True)
    (folder / "tasks").mkdir()
    pairs = list(CITIES.items())
    chats: list[dict[str, object]] = [
        {"messages": [{"speaker": "customer", "text": f"{ASKED[n % 4].format(land)} ({n})"},
                      {"speaker": "agent", "text": f"The capital of {land} is {city}."}]}
        for n in range(12) for land, city in pairs
    ]  # fmt: skip
    prefs: list[dict[str, object]] = [
        {"question": f"What is the capital of {land}? [{n}]", "good": f"The capital of {land} is {city}.",
         "bad": f"The capital of {land} is {pairs[(n + 3) % 8][1]}."}
        for n in range(24) for land, city in [pairs[n % 8]]
    ]  # fmt: skip
    questions: list[dict[str, object]] = [
        {"question": f"The capital of {land} is", "choices": [city, pairs[(n + 1) % 8][1]], "answer": 0}
        for n, (land, city) in enumerate(pairs)
    ]
    (folder / "data/chats/one.jsonl").write_text(_lines(chats), encoding="utf-8")
    (folder / "data/prefs.jsonl").write_text(_lines(prefs), encoding="utf-8")
    (folder / "tasks/capitals.jsonl").write_text(_lines(questions), encoding="utf-8")
    (folder / "tasks/capitals.yaml").write_text(TASK, encoding="utf-8")


def test_the_pipeline(tool: Callable[[str], Path], tmp_path: Path) -> None:
    _project(tmp_path)
    engine = os.environ.get("FTC_ENGINE_PYTHON") or str(ROOT / python_in(folder_of("llamafactory")))
    env = {"FTC_ENGINE_PYTHON": engine, "HF_HOME": str(tmp_path / "hub"), "HF_TOKEN": "", "OMP_NUM_THREADS": "1"}
    for name in ("lm-eval", "llmcompressor"):
        env[f"FT_{name.upper().replace('-', '_')}_PYTHON"] = str(tool(name))

    def run(*profiles: str) -> tuple[int, str]:
        options = [part for profile in ("toys", *profiles) for part in ("--profile", profile)]
        done = ftc_process("run", "toys.ft", *options, cwd=tmp_path, timeout=1500, **env)
        return done.returncode, done.stdout + done.stderr

    status, said = run()
    assert status == 1 and "FT973" in said and "HF_TOKEN" in said, said
    assert not list(tmp_path.glob("runs/*/*/*/log.txt")), "nothing has started"

    status, said = run("local", "worse")
    assert status == 3, said
    refused = next(tmp_path.glob("runs/*worse*/last/50-exam"))
    events = [json.loads(line) for line in (refused / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert any(event["event"] == "gate" and event["metric"] == "capitals" and not event["holds"] for event in events)
    assert not (tmp_path / "out").exists(), "nothing is merged"

    status, said = run("local")
    assert status == 0, said
    result = json.loads(next(tmp_path.glob("runs/*toys+local/last/50-exam/result.json")).read_text(encoding="utf-8"))
    assert result["metrics"]["capitals"] >= 0.9 and "capitals_stderr" in result["metrics"]
    assert result["against"]["stage"] == "sft" and "capitals" in result["against"]["differences"]
    merged, small = tmp_path / "out/qwen3-14b-support", tmp_path / "out/qwen3-14b-support-int4"
    assert {"README.md", "Modelfile", "generation_config.json"} <= {path.name for path in merged.iterdir()}
    card = (small / "README.md").read_text(encoding="utf-8")
    assert 'tags: ["ftdsl", "sft", "dpo", "quantized"]' in card and "capitals" in card
    assert json.loads((small / "config.json").read_text(encoding="utf-8"))["quantization_config"]
    assert (tmp_path / "models.stamp").is_file() or list(tmp_path.glob("runs/*/last/models.stamp"))
