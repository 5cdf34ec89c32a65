"""Logs of programs that were really broken (logs/, each named after its cause) are read for their cause."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ftdsl.diagnose.causes import cause_in_log
from tests.conftest import ROOT, ftc
from tests.diagnose.runs import kept, printed

LOGS = sorted((ROOT / "tests" / "diagnose" / "logs").glob("*.txt"))

GPU = """\
Traceback (most recent call last):
  File "/opt/engine/lib/python3.11/site-packages/transformers/trainer.py", line 3730, in training_step
    self.accelerator.backward(loss, **kwargs)
  File "/opt/engine/lib/python3.11/site-packages/torch/autograd/graph.py", line 829, in _engine_run_backward
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.32 GiB. GPU 3 has a total capacity of 79.15 GiB of which \
1.21 GiB is free. Including non-PyTorch memory, this process has 77.92 GiB memory in use. Of the allocated memory 70.10 GiB is \
allocated by PyTorch, and 6.40 GiB is reserved by PyTorch but unallocated.
"""


@pytest.mark.parametrize("log", LOGS, ids=lambda path: path.stem)
def test_a_broken_program_is_understood(log: Path) -> None:
    cause = cause_in_log(log.read_text(encoding="utf-8"))
    assert cause is not None
    assert cause.name == log.name.split(".")[0], cause.message
    assert cause.line >= 1
    assert not re.search(r"\{\w+\}", cause.message), "every place is filled in"


def test_out_of_memory_says_where_and_how_much() -> None:
    cause = cause_in_log(GPU)
    assert cause is not None and cause.name == "card_out_of_memory"
    for text in (
        "backward pass",
        "2.32 GiB were asked for",
        "GPU 3 has 79.15 GiB, of which 1.21 GiB were free",
        "6.40 GiB were reserved",
    ):
        assert text in cause.message


def test_a_process_out_of_memory_explains_those_that_waited() -> None:
    waiting = (
        "[rank1]: torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1691, remote process exited\n"
    )
    cause = cause_in_log(waiting + GPU + waiting)
    assert cause is not None and cause.name == "card_out_of_memory"


@pytest.mark.parametrize(
    "before", ["", "[WARNING] No module named 'flash_attn'\n", "UserWarning: CUDA driver version is insufficient\n"]
)
def test_what_was_survived_is_no_cause(before: str) -> None:
    text = before + printed(kept()["healthy/1.json"])
    assert cause_in_log(text) is None
    assert cause_in_log(GPU + text + "***** train metrics *****\n") is None
    cause = cause_in_log(text + "Traceback (most recent call last):\n  …\nZeroDivisionError: division by zero\n")
    assert cause is not None and (cause.name, cause.message) == (
        "",
        "the program says: ZeroDivisionError: division by zero",
    )


def test_the_process_that_failed_says_why() -> None:
    """Not the launcher, which only says that one did."""
    start = "Traceback (most recent call last):\n  …\n"
    text = f"{start}[rank1]: ZeroDivisionError: division by zero\n{start}"
    cause = cause_in_log(text + "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n")
    assert cause is not None and "division by zero" in cause.message


def test_a_secret_in_a_message_is_not_shown() -> None:
    cause = cause_in_log("Traceback (most recent call last):\nRuntimeError: bad token hf_" + "a1B2" * 9 + "\n")
    assert cause is not None and "a1B2a1B2" not in cause.message


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_text(printed(kept()["healthy/1.json"]) + GPU, encoding="utf-8")
    done = ftc("diagnose", "x.log", cwd=tmp_path)
    assert done.returncode == 1
    assert "x.log: the card has not enough memory; in the backward pass; 2.32 GiB were asked for" in done.stdout
    assert "= help: halve `batch.micro`" in done.stdout
    told = json.loads(ftc("diagnose", "x.log", "--json", cwd=tmp_path).stdout)
    assert told["diagnoses"][0]["trainings"][0]["cause"]["cause"] == "card_out_of_memory"
