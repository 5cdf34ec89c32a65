"""Each method, precision, optimizer, … that needs no card trains a toy for a few steps, from a recipe, by `ftc run`.

What was asked for must really be there: a probe in the engine's process looks at the model, its optimizer and what changed.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from ftdsl.run.environments import Environment
from tests import methods, pages
from tests.conftest import ftc_process
from tests.real.test_agreement import verdicts

pytestmark = pytest.mark.real

RAN = [row for row in methods.TABLE if not row.card]


@pytest.fixture(scope="module")
def ran(forking: Environment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every row as a stage of one recipe, carried out by `ftc run`: stage -> what it says at its end, with its folder."""
    place = tmp_path_factory.mktemp("methods")
    methods.write_rows(place)
    shutil.copy(Path(__file__).with_name("probe.py"), place)
    stages = [row.stage(f"s{number}") for number, row in enumerate(RAN)]
    (place / "r.ft").write_text(methods.HEAD + 'callbacks = ["probe:Probe"]\n' + "\n".join(stages), encoding="utf-8")
    python = str(forking.python)
    done = ftc_process("run", "r.ft", "--json", "--no-preload", "--engine-python", python, cwd=place)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    folder = place / document["run"]
    return {one["stage"]: {**one, "folder": next(folder.glob(f"*-{one['stage']}"), None)} for one in document["stages"]}


def tensors(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Name -> type and shape of what a safetensors file holds (its header: a length, then JSON)."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    return {name: (one["dtype"], one["shape"]) for name, one in header.items() if name != "__metadata__"}


def seen(folder: Path) -> methods.Seen:
    result = folder / "result"
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    adapter = result / "adapter_config.json"
    return methods.Seen(
        **json.loads((result / "probe.json").read_text(encoding="utf-8")),
        losses=[event["loss"] for event in steps],
        curve=[event["lr"] for event in steps],
        adapter=json.loads(adapter.read_text(encoding="utf-8")) if adapter.exists() else {},
        saved=tensors(next(path for path in sorted(result.glob("*.safetensors")))),
        checkpoints=sorted(path.name for path in result.glob("checkpoint-*")),
    )


@pytest.mark.parametrize("number", range(len(RAN)), ids=[row.label for row in RAN])
def test_it_trains_and_is_what_was_asked_for(number: int, ran: dict[str, Any]) -> None:
    row, stage = RAN[number], ran[f"s{number}"]
    assert stage["status"] == "done", stage.get("message")
    found = seen(stage["folder"])
    assert found.losses
    assert all(map(math.isfinite, found.losses))
    assert found.trained, "nothing changed"
    assert set(found.trained) <= set(found.open), "what is frozen changed"
    assert row.shows(found), found


def test_what_is_not_run_is_taken_by_the_engines_parser(forking: Environment, tmp_path: Path) -> None:
    """Rows that need a card, and each pair of docs/methods.md that compiles for one process."""
    cases = {row.label: pages.parameters(pages.compiled(row)[1]) for row in methods.TABLE if row.card}
    for down in pages.DOWN:
        for across in pages.ACROSS:
            checked, found = pages.pair(down, across)
            if not found and "count" not in pages.ACROSS[across] and "parallel" not in pages.DOWN[down]:
                cases[f"{down} with {across}"] = pages.parameters(checked.jobs[-1])
    assert len(cases) > 60
    model = {"model_type": "qwen3", "quantised": False}
    given = [(name, "train", {**data, "use_cpu": True, "tf32": None}, model) for name, data in cases.items()]
    expected = verdicts(given, forking, tmp_path, rank=False)
    assert {name: arguments for name, (arguments, _) in expected.items() if arguments} == {}
