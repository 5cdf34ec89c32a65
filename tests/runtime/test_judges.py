"""What was seen of a stage and what follows from it: judged without torch, without an engine."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from ftdsl.runtime import judges
from ftdsl.runtime.judges import Step
from tests.conftest import ROOT

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("loss", "norm", "policy", "action", "name"),
    [
        (1.0, 2.0, "stop", None, ""),
        (0.0, 0.0, "stop", None, ""),
        (None, None, "stop", None, ""),
        (NAN, 1.0, "stop", "stop", "loss is nan at step 7"),
        (INF, 1.0, "warn", "warn", "loss is inf at step 7"),
        (1.0, -INF, "stop", "stop", "grad_norm is -inf at step 7"),
        (NAN, NAN, "ignore", None, ""),
    ],
)
def test_numbers_that_are_none(loss: float, norm: float, policy: str, action: str | None, name: str) -> None:
    verdict = judges.finite(Step(7, loss, norm), policy)
    assert (verdict.action if verdict else None) == action
    assert (verdict.message if verdict else "") == name


@pytest.mark.parametrize(
    ("size", "planned", "least", "fine"),
    [(8, 8, 0, True), (1, 8, 0, False), (9, 8, 0, False), (4, 8, 4, True), (3, 8, 4, False)],
)
def test_as_many_processes_as_planned(size: int, planned: int, least: int, fine: bool) -> None:
    for judge in (judges.launched, judges.world):
        verdict = judge(size, planned, least)
        assert (verdict is None) == fine
        assert verdict is None or (verdict.action, verdict.status) == ("stop", judges.WRONG_WORLD)


@pytest.mark.parametrize(
    ("kind", "config", "word"),
    [
        ("cuda", {"fp16": True}, None),
        ("cpu", {"use_cpu": True}, None),
        ("cpu", {}, "hardware.gpu"),
        ("cpu", {"use_cpu": True, "fp16": True}, "precision"),
    ],
)
def test_where_it_is_computed(kind: str, config: dict[str, bool], word: str | None) -> None:
    verdict = judges.device(kind, config)
    assert (verdict.keys[0] if verdict else None) == word


@pytest.mark.parametrize(
    ("used", "config", "fine"),
    [
        ("bf16", {"bf16": True}, True),
        ("no", {}, True),
        ("fp16", {"bf16": True}, False),
        ("bf16", {}, False),
        ("fp16", {"deepspeed": "ds.json"}, True),
        ("fp16", {"fp8": True}, True),
    ],
)
def test_what_it_is_computed_in(used: str, config: dict[str, object], fine: bool) -> None:
    assert (judges.precision(used, config) is None) == fine


@pytest.mark.parametrize(("wanted", "step", "fine"), [(0, 0, True), (0, 9, True), (5, 5, True), (5, 0, False)])
def test_a_training_resumes_where_it_should(wanted: int, step: int, fine: bool) -> None:
    assert (judges.resumed(wanted, step) is None) == fine


def test_judges_need_nothing_but_the_standard_library() -> None:
    code = "import sys; sys.path.insert(0, 'ftdsl'); import runtime.judges; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "runtime.report"} & set(done.stdout.split())
