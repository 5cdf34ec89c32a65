"""Logs as people report them: of other launchers, versions and schedulers than ours, cut off, with a prefix on every line.

The texts (reported.toml) are made up; their forms are those of public reports.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from ftdsl.diagnose.causes import cause_in_log

FRAMES = """\
Traceback (most recent call last):
  File "/home/a/train.py", line 88, in <module>
    trainer.train()
  File "/opt/env/lib/python3.11/site-packages/transformers/trainer.py", line 2171, in train
"""
STEP = "{'loss': 1.9, 'grad_norm': 0.8, 'learning_rate': 1e-05, 'epoch': 0.1}\n"

FILLED = {
    "%FRAMES%": FRAMES,
    "%STEP%": STEP,
    "%RANKED%": "".join(f"[rank0]: {line}\n" for line in FRAMES.splitlines()).rstrip("\n"),
}
LOGS = tomllib.loads(Path(__file__).with_name("reported.toml").read_text(encoding="utf-8"))["log"]


@pytest.mark.parametrize("log", LOGS, ids=[f"{at}-{log['cause']}" for at, log in enumerate(LOGS)])
def test_a_reported_log_is_understood(log: dict[str, str]) -> None:
    text = log["text"]
    for mark, filled in FILLED.items():
        text = text.replace(mark, filled)
    cause = cause_in_log(text)
    assert cause is not None, "nothing broke"
    assert cause.name == log["cause"], cause.message
    assert log.get("shown", "") in cause.message
    assert cause.help and cause.keys
    assert not re.search(r"\{\w+\}", cause.message + cause.help), "every group is filled in"


@pytest.mark.parametrize(
    "prefix", ["(WorkerDict pid=311, ip=10.0.0.4) ", "[rank3]: ", "rank3: ", "1: ", "2026-01-03T18:44:26Z "]
)
def test_a_prefix_on_every_line_hides_nothing(prefix: str) -> None:
    """Of Ray, torchrun, srun --label and container logs."""
    text = (
        FRAMES
        + '  File "/x/torch/_tensor.py", line 3, in backward\n    loss.backward()\ntorch.OutOfMemoryError: CUDA out of memory.'
    )
    cause = cause_in_log("".join(f"{prefix}{line}\n" for line in text.splitlines()))
    assert cause is not None and cause.name == "card_out_of_memory" and "in the backward pass" in cause.message
    cause = cause_in_log("".join(f"{prefix}{line}\n" for line in (FRAMES + "ZeroDivisionError: by zero").splitlines()))
    assert cause is not None and "ZeroDivisionError: by zero" in cause.message


@pytest.mark.parametrize(
    "line", ["ERROR 404 for a mirror, trying the next", "INFO: 3 of 3 retries after TimeoutError, done"]
)
def test_a_log_that_goes_on_is_not_broken(line: str) -> None:
    assert cause_in_log(STEP + line + "\n" + STEP * 3) is None
