"""Logs of other programs: names, tables, bars; each of the same eleven steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdsl.diagnose.names import canonical
from ftdsl.diagnose.read import trainings

STEPS = range(10, 120, 10)


def loss(step: int) -> float:
    return round(3 - step / 100, 4)


def each(row: Callable[[int], str], held: Callable[[int], str] | None = None, end: str = "\n") -> str:
    """A line a step, and after each fifth what an evaluation prints."""
    lines = []
    for step in STEPS:
        lines.append(row(step))
        if held is not None and step % 50 == 0:
            lines.append(held(step))
    return end.join(lines) + end


def wandb(step: int) -> str:
    return json.dumps({"train/loss": loss(step), "train/grad_norm": 0.5, "train/learning_rate": 1e-4, "train/epoch": step / 50,
                       "train/global_step": step, "_step": step // 7, "_runtime": step / 2.0, "_timestamp": 1.7e9})  # fmt: skip


def bar(step: int, after: str = "") -> str:
    return f"Training:  12%|##  | {step}/110 [00:01<00:05,  1.2it/s{after}]"


NANO = "iter {step}: loss {loss:.4f}, time 12.31ms, mfu 30.10%"
TITAN = (
    "[titan] 2026-01-01 00:00:00,000 - root - INFO - step: {step:2}  loss: {loss:8.4f}  grad_norm:  0.5000"
    "  memory: 40.50GiB(51.22%)  tps: 6,123"
)
TUNE = "Step {step} | loss:{loss} lr:2e-05 tokens_per_second_per_gpu:1200.5 grad_norm:0.5"
LIT = "Epoch 1 | iter 1{step} step {step} | loss train: {loss:.4f}, val: n/a | iter time: 300.10 ms (step)"
LIGHTNING_BAR = "Epoch 0: 10%|#  | {step}/200 [00:10<00:20, 3it/s, v_num=0, train_loss={loss}]"
DEEPSPEED = "steps: {step} loss: {loss:.4f} iter time (s): 0.500 samples/sec: 16.0"


def filled(pattern: str) -> Callable[[int], str]:
    return lambda step: pattern.format(step=step, loss=loss(step), epoch=step // 50)


def evaluated(step: int) -> str:
    return json.dumps({"eval/loss": 2.5, "eval/runtime": 3, "train/global_step": step})


def mixed(step: int) -> str:
    return f"{bar(step)}\n\x1b[32m2026-01-01\x1b[0m INFO {json.dumps({'step': step, 'loss': loss(step)})}"


EXPORT = '"Step","run-1 - train/loss","run-1 - train/loss__MIN"\n'
TABLE = "Step\tTraining Loss\tValidation Loss\n"
HEAD = "epoch,step,train_loss,val_loss\n"
LOGS: dict[str, tuple[str, str, int]] = {
    "wandb": ("history.jsonl", each(wandb, evaluated), 2),
    "wandb_export": ("export.csv", EXPORT + each(filled('"{step}","{loss}","1"')), 0),
    "lightning": ("metrics.csv", HEAD + each(filled("{epoch},{step},{loss},"), filled("{epoch},{step},,2.5")), 2),
    "lightning_bar": ("train.log", each(filled(LIGHTNING_BAR), end="\r"), 0),
    "notebook": ("out.txt", TABLE + each(filled("{step}\t{loss}\t2.5")), 11),
    "nanogpt": ("log.txt", each(filled(NANO), filled("step {step}: train loss {loss}, val loss 2.5000")), 2),
    "torchtitan": ("rank0.log", each(filled(TITAN)), 0),
    "torchtune": ("log.txt", each(filled(TUNE)), 0),
    "torchtune_bar": (
        "log.txt",
        each(filled("1|{step}|Loss: {loss}: 9%|##  | {step}/110 [00:01<00:05, 1.2it/s]"), end="\r"),
        0,
    ),
    "litgpt": ("log.txt", each(filled(LIT)), 0),
    "tqdm": ("log.txt", each(lambda step: bar(step, f", loss={loss(step)}, lr=1e-5"), end="\r"), 0),
    "mixed": ("log.txt", each(mixed), 0),
    "deepspeed": ("log.txt", each(filled(DEEPSPEED)), 0),
    "brackets": ("log.txt", each(filled("[{step}/110] loss = {loss:.4f}")), 0),
    "accelerate": ("log.txt", each(filled("{{'train_loss': {loss}, 'step': {step}, 'lr': 1e-05}}")), 0),
}


@pytest.mark.parametrize("name", LOGS)
def test_logs_of_other_programs(name: str, tmp_path: Path) -> None:
    file, content, evaluations = LOGS[name]
    (tmp_path / file).write_text(content, encoding="utf-8")
    (curves,) = trainings(tmp_path / file)
    assert curves.loss.steps == list(STEPS)
    assert curves.loss.values == pytest.approx([loss(step) for step in STEPS], abs=1e-3)
    assert len(curves.evals) == evaluations
    assert set(curves.evals.values) <= {2.5}


def test_other_series_have_our_names(tmp_path: Path) -> None:
    for name in ("wandb", "torchtitan"):
        (tmp_path / LOGS[name][0]).write_text(LOGS[name][1], encoding="utf-8")
    (wandb_run,), (titan,) = trainings(tmp_path / "history.jsonl"), trainings(tmp_path / "rank0.log")
    assert {"grad_norm", "learning_rate", "epoch", "elapsed"} == set(wandb_run.more)
    assert titan.series("memory").values[0] == 40.5 * 2**30
    assert titan.series("throughput").values[0] == 6123


@pytest.mark.parametrize(("theirs", "ours"), {
    "train/loss": "loss", "Training Loss": "loss", "lm loss": "loss", "eval/loss": "eval_loss", "val_loss": "eval_loss",
    "validation/lm_loss": "eval_loss", "loss/val": "eval_loss", "lr": "learning_rate", "train/grad_norm": "grad_norm",
    "rewards/chosen": "rewards/chosen", "train/rewards/margins": "rewards/margins", "eval_rewards/margins": "",
    "eval/runtime": "", "train_samples_per_second": "", "interval_loss": "interval_loss", "latest_loss": "latest_loss",
    "global_step": "", "_timestamp": "",
}.items())  # fmt: skip
def test_names(theirs: str, ours: str) -> None:
    assert canonical(theirs) == ours


def test_the_mean_over_a_run_is_no_step(tmp_path: Path) -> None:
    rows = [{"loss": loss(step), "step": step} for step in STEPS]
    last = {"train_loss": 9.0, "train_runtime": 3.0, "step": 110}
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": [*rows, last]}), encoding="utf-8")
    (curves,) = trainings(tmp_path)
    assert 9.0 not in curves.loss.values


def test_epochs_that_are_counted(tmp_path: Path) -> None:
    """Lightning's epochs are whole numbers from 0: three whole ones and a part."""
    text = "epoch,step,train_loss\n" + "".join(f"{step // 30},{step},{3 - step / 200}\n" for step in range(5, 110, 5))
    (tmp_path / "metrics.csv").write_text(text, encoding="utf-8")
    (curves,) = trainings(tmp_path / "metrics.csv")
    assert curves.steps_per_epoch == 30
    assert curves.epochs == pytest.approx(3.5)
