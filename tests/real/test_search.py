"""A study of the real engine: it learns, prunes by the trainer's own evaluations, and trains on with the best."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ftdsl.run.environments import Environment
from tests.conftest import ROOT, ftc_process

pytestmark = pytest.mark.real

RECIPE = """
name   = "study"
engine = llamafactory("0.9.5")
hardware { gpu = none, count = 1 }
template = qwen3_nothink
max_len  = 64

data capitals { source = file("data/capitals.jsonl"), holdout { eval = 15% } }

sft {
  model    = scratch(architecture = qwen3, hidden = 64, layers = 2, heads = 4, vocab = 1k)
  data     = capitals
  duration = 24 steps
  full     {}
  optim    { lr ~ choice(5e-3, 1e-7, 1e-6, 2e-6), warmup = 5% }
  batch    { global = 16, micro = 16 }
  save     { every = never }
  evaluate { data = capitals.eval, every = 6 steps, batch = 16 }
}

search { sampler = grid, pruner = median(after = 6 steps, startup = 1), goal = minimize(sft.eval_loss) }
"""


def test_a_study_on_the_engine(engine: Environment, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "data", tmp_path / "data")
    (tmp_path / "s.ft").write_text(RECIPE, encoding="utf-8")
    done = ftc_process("run", "s.ft", "--json", "--engine-python", str(engine.python), cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    study = json.loads(done.stdout)["study"]
    states = [trial["state"] for trial in study["trials"]]
    assert len(states) == 4 and set(states) <= {"complete", "pruned"}
    best = next(trial for trial in study["trials"] if trial["number"] == study["best"])
    assert best["parameters"] == {"sft.optim.lr": "5e-3"}
    assert {"full {}", "optim.lr = 5e-3"} <= set(study["settings"]), "for `settings = study(…)` of another recipe"
    for trial in study["trials"]:
        if trial["state"] == "complete":
            folder = tmp_path / trial["run"]
            result = json.loads((next(folder.glob("*-sft")) / "result.json").read_text(encoding="utf-8"))
            assert result["metrics"]["eval_loss"] == trial["values"]["sft.eval_loss"]
        else:
            assert trial["step"] < 24
    shared = study["shared"]
    assert "capitals" in shared and "sft" not in shared
    (data,) = {path.resolve() for path in (tmp_path / "runs" / "study" / "study").glob("*/*/*-capitals")}
    assert data.parent.parent.name == "study" and data.parent.parent.parent.name == "runs", (
        "made once, in the recipe's own run"
    )


def test_a_paused_trial_is_continued_from_its_checkpoint(forking: Environment, tmp_path: Path) -> None:
    """What it gives is what the same training gives without a pause, to the last bit."""
    shutil.copytree(ROOT / "examples" / "data", tmp_path / "data")
    asha = RECIPE
    for old, new in (
        ("median(after = 6 steps, startup = 1)", "asha(after = 12 steps, reduction = 2)"),
        ("duration = 24 steps", "duration = 60 steps"),  # long enough to be paused
        ("every = 6 steps", "every = 12 steps"),
        ("global = 16, micro = 16", "global = 32, micro = 8"),
    ):
        assert old in asha
        asha = asha.replace(old, new)
    (tmp_path / "s.ft").write_text(asha, encoding="utf-8")
    done = ftc_process("run", "s.ft", "--json", "--no-preload", "--engine-python", str(forking.python), cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    study = json.loads(done.stdout)["study"]
    assert len(study["trials"]) == 4
    (best,) = [trial for trial in study["trials"] if trial["state"] == "complete"]
    assert f"trial {best['number']}: among the best at step" in done.stderr, "it was paused, and continued"
    (stage,) = (tmp_path / best["run"]).glob("*-sft")
    events = [json.loads(line) for line in (stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    starts = [event["step"] for event in events if event["event"] == "start"]
    assert len(starts) > 1 and starts[0] == 0 and all(12 <= step < 60 for step in starts[1:]), "where it was left"
    straight = ftc_process(
        "run", "s.ft", "--set", f"sft.optim.lr={best['parameters']['sft.optim.lr']}", "--fresh", "--json",
        "--no-preload", "--engine-python", str(forking.python), cwd=tmp_path,
    )  # fmt: skip
    assert straight.returncode == 0, straight.stderr
    row = next(row for row in json.loads(straight.stdout)["stages"] if row["stage"] == "sft")
    assert row["metrics"]["eval_loss"] == best["values"]["sft.eval_loss"]
    kept = json.loads((stage / "result.json").read_bytes())["metrics"]
    # the trainer adds losses up in 32 bits from log to log: where a pause cut the sum depends on when the trial was stopped
    assert row["metrics"]["train_loss"] == pytest.approx(kept["train_loss"], rel=1e-6), "a mean of two parts"
    weights = [path / "result" / "model.safetensors" for path in (stage, tmp_path / row["path"] / "..")]
    assert len({path.read_bytes() for path in weights}) == 1


THIRD = """
profile ~ choice(narrow, wide, huge)
profile narrow { sft.model = scratch(architecture = qwen3, hidden = 32, layers = 2, heads = 4, vocab = 1k) }
profile wide   { sft.optim.lr = 1e-3 }
profile huge   { hardware { gpu = rtx4090, count = 1 }, sft.model = hf("Qwen/Qwen3-32B"), parallel { strategy = ddp } }
"""


def test_what_does_not_fit_the_card_is_never_launched(forking: Environment, tmp_path: Path) -> None:
    """A third of the space trains a model of 32B whole on a card of 24 GB."""
    shutil.copytree(ROOT / "examples" / "data", tmp_path / "data")
    text = RECIPE.replace("~ choice(5e-3, 1e-7, 1e-6, 2e-6)", "~ log(1e-4 .. 1e-2)").replace("24 steps", "6 steps")
    text = text.partition("search {")[0] + THIRD
    text += "search { sampler = random(seed = 1), trials = 4, goal = minimize(sft.eval_loss) }\n"
    (tmp_path / "s.ft").write_text(text, encoding="utf-8")
    done = ftc_process("run", "s.ft", "--json", "--no-preload", "--engine-python", str(forking.python), cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    trials = json.loads(done.stdout)["study"]["trials"]
    ran = [trial for trial in trials if trial["state"] == "complete"]
    refused = [trial for trial in trials if trial["state"] == "infeasible"]
    assert len(ran) == 4 and len(ran) + len(refused) == len(trials)
    assert refused and {trial["parameters"]["profile"] for trial in refused} == {"huge"}
    assert "huge" not in {trial["parameters"]["profile"] for trial in ran}
    assert all("GiB" in trial["reason"] and not trial["run"] for trial in refused)
