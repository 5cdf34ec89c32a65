"""Every format gives the same run; files of any origin are read without failing."""

from __future__ import annotations

import contextlib
import json
import math
import random
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftdsl.diagnose.diagnosis import diagnose
from ftdsl.diagnose.examined import examine
from ftdsl.diagnose.names import canonical
from ftdsl.diagnose.read import UnreadableError, trainings
from tests.diagnose.runs import FORMATS, kept, write

BY_LOSS = {"overfit/1.json": "overfitting", "nan/2.json": "not-a-number", "spike_rows/1.json": "loss-spikes",
           "lr_high/1.json": "rate-too-high", "label_noise/2.json": "noisy-labels", "healthy/1.json": ""}  # fmt: skip
WITHOUT_EVALS = ("megatron",)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("run", BY_LOSS)
def test_formats_agree(run: str, kind: str, tmp_path: Path) -> None:
    (curves,) = trainings(write(tmp_path, run, kind))
    document = kept()[run]
    assert curves.loss.steps == [row["step"] for row in document["steps"]]
    wanted = [float(row["loss"]) for row in document["steps"]]
    assert all(a == pytest.approx(b, rel=1e-3) or (math.isnan(a) and math.isnan(b))
               for a, b in zip(curves.loss.values, wanted, strict=True))  # fmt: skip
    if kind not in WITHOUT_EVALS:
        assert curves.evals.steps == [row["step"] for row in document["evals"]]
    if not (kind in WITHOUT_EVALS and BY_LOSS[run] in ("overfitting", "noisy-labels")):
        assert [finding.name for finding in diagnose(curves)] == ([BY_LOSS[run]] if BY_LOSS[run] else [])


def test_text_without_bars_counts_its_rows(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_text(
        "".join(f"{{'loss': {5 - n / 10}, 'epoch': {n}}}\n" for n in range(20)), encoding="utf-8"
    )
    (curves,) = trainings(tmp_path / "x.log")
    assert curves.loss.steps == list(range(1, 21))


def test_lines_of_other_trainers(tmp_path: Path) -> None:
    text = "".join(
        f"2026-01-01 [train] step {n * 10}: train_loss=2.{n:02} lr: 1e-4 grad_norm 0.{n + 1}\n" for n in range(9)
    )
    (tmp_path / "x.log").write_text(text, encoding="utf-8")
    (curves,) = trainings(tmp_path / "x.log")
    assert curves.loss.steps == [n * 10 for n in range(9)]
    assert curves.series("learning_rate").values[0] == 1e-4
    assert curves.grads.values[:2] == [0.1, 0.2]


def test_after_a_resume_the_newer_values_count(tmp_path: Path) -> None:
    rows = [(1, 3.0), (2, 2.0), (3, 1.0), (2, 2.5), (3, 2.4), (4, 2.3)]
    lines = [json.dumps({"current_steps": step, "loss": loss}) for step, loss in rows]
    (tmp_path / "trainer_log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (curves,) = trainings(tmp_path)
    assert (curves.loss.steps, curves.loss.values) == ([1, 2, 3, 4], [3.0, 2.5, 2.4, 2.3])


def test_folders(tmp_path: Path) -> None:
    """A run of ours, an output folder with checkpoints of which the newest counts, a folder of logs."""
    write(tmp_path / "run" / "10-base", "healthy/1.json", "metrics")
    write(tmp_path / "run" / "20-sft", "overfit/1.json", "metrics")
    (tmp_path / "run" / "20-sft" / "train.yaml").write_text("stage: sft\nlearning_rate: 1.0e-3\n", encoding="utf-8")
    first, second = trainings(tmp_path / "run")
    assert (first.stage, second.stage) == ("10-base", "20-sft")
    assert second.config == {"stage": "sft", "learning_rate": 1e-3}
    write(tmp_path / "out" / "checkpoint-9", "healthy/1.json", "trainer_state")
    newest = write(tmp_path / "out" / "checkpoint-10", "overfit/1.json", "trainer_state")
    assert [curves.source for curves in trainings(tmp_path / "out")] == [newest.as_posix()]
    write(tmp_path / "logs", "healthy/1.json", "printed")
    assert len(trainings(tmp_path / "logs")) == 1


NO_TRAINING = [
    b"", b"{", b"[]", b"{}", b"\x00\xff", b'{"log_history": 3}', b'{"log_history": [{"step": "x"}]}', b"[" * 100_000,
    b'{"a":' * 100_000, b'{"step": 1e999, "loss": 1}',
]  # fmt: skip


@pytest.mark.parametrize("content", NO_TRAINING, ids=range(len(NO_TRAINING)))
@pytest.mark.parametrize("name", ["trainer_state.json", "trainer_log.jsonl", "metrics.jsonl", "x.log"])
def test_what_is_no_training(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableError):
        trainings(tmp_path / name)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(st.sampled_from(["step", "loss", "eval_loss", "grad_norm", "lr", "epoch", "elapsed_time"]),
                                st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.just("x"),
                                          st.just("nan"), st.just("0:00:05"))), max_size=60))  # fmt: skip
def test_no_rows_make_a_reader_or_a_judge_fail(rows: list[dict[str, object]]) -> None:
    from ftdsl.diagnose.read import of_document

    diagnose(of_document({"log_history": rows}, Path("x"), {}))


@given(
    st.lists(
        st.sampled_from([0.0, 1.0, 1e-9, 1e30, -1.0, math.nan, math.inf, -math.inf, 0.5, 0.7]), min_size=5, max_size=80
    ),
    st.sampled_from([1, 10]),
)
def test_no_losses_make_a_judge_fail(losses: list[float], every: int) -> None:
    from ftdsl.diagnose.read import of_document

    rows = [
        {"step": every * at, "loss": loss, "grad_norm": loss, "eval_loss": loss, "epoch": at / 9}
        for at, loss in enumerate(losses)
    ]
    diagnose(of_document({"log_history": rows, "config": {"per_device_train_batch_size": 1}}, Path("x"), {}))


def test_means_that_end_at_zero_make_no_judge_fail() -> None:
    """A loss of preferences that is printed with few digits."""
    from ftdsl.diagnose.read import of_document

    losses = [*[2.0, 1.9, 2.1, 1.9, 2.0] * 5, 2.1, 0.0, 0.0, 0.0, 0.0]
    rows = [
        {"step": 10 * at, "loss": loss, "learning_rate": 1e-4, "grad_norm": 1.0} for at, loss in enumerate(losses, 1)
    ]
    diagnose(of_document({"log_history": rows}, Path("x"), {}))


NUMBERS = (10**40, 10**400, 1e-320, -1, True, None, "9" * 400, [1], {"a": 1}, math.nan, math.inf, "5/100")


@pytest.mark.parametrize("value", NUMBERS, ids=range(len(NUMBERS)))
@pytest.mark.parametrize("name", ["step", "loss", "eval_loss", "grad_norm", "epoch", "elapsed", "memory", "event"])
def test_no_value_makes_a_reader_or_a_judge_fail(name: str, value: object, tmp_path: Path) -> None:
    rows = [
        {"event": "step", "step": at, "loss": 5 - at / 10, "grad_norm": 1.0, "epoch": at / 20} for at in range(1, 41)
    ]
    for at in (3, 20, 39):
        rows[at] = {**rows[at], name: value}
    lines, document = "\n".join(map(json.dumps, rows)), json.dumps({"log_history": rows})
    for file, text in (("metrics.jsonl", lines), ("trainer_state.json", document)):
        (tmp_path / file).write_text(text, encoding="utf-8")
        with contextlib.suppress(UnreadableError):
            examine(tmp_path / file)


@pytest.mark.slow
def test_a_hundred_thousand_steps_take_under_two_seconds(tmp_path: Path) -> None:
    """Seconds of computing of reading and judging: benchmarks/diagnosis_speed.py measures the whole command."""
    random.seed(1)
    lines = [json.dumps({"current_steps": n, "loss": 0.7 + 5 * 0.9995**n + random.random() / 20, "lr": 1e-4, "epoch": n / 30000})
             for n in range(1, 100_001)]  # fmt: skip
    (tmp_path / "trainer_log.jsonl").write_text("\n".join(lines), encoding="utf-8")
    start = time.process_time()
    (curves,) = trainings(tmp_path)
    assert diagnose(curves) == []
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("name", "ours"),
    [("tokens/s", "throughput"), ("train/tokens_per_second_per_gpu", "throughput"), ("train_speed(iter/s)", "throughput"),
     ("it/s", "throughput"), ("step_time_ms", "seconds"), ("ms_per_step", "seconds"), ("time/iteration", "seconds"),
     ("memory(GiB)", "memory"), ("gpu_memory_allocated_gb", "memory"), ("rss_mb", "memory"), ("max_memory_allocated", "memory"),
     ("train_samples_per_second", ""), ("eval_samples_per_second", ""), ("mean_token_accuracy", "mean_token_accuracy"),
     ("num_tokens", "num_tokens"), ("memory_bank_loss", "memory_bank_loss")],
)  # fmt: skip
def test_what_nobody_calls_alike(name: str, ours: str) -> None:
    assert canonical(name) == ours


def test_a_bar_is_a_clock(tmp_path: Path) -> None:
    """Printed by the Trainer: steps that take longer and longer."""
    rows, clock = [], 0.0
    for step in range(1, 201):
        clock += 0.5 + 0.01 * step
        hours, rest = divmod(int(clock), 3600)
        shown = f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60:02d}:{rest % 60:02d}"
        rows.append(
            f"\r {step // 2}%|#    | {step}/200 [{shown}<10:00,  1.50s/it]\n{{'loss': {2 - step / 400:.4f}, 'epoch': 0.1}}"
        )
    (tmp_path / "train.log").write_text("\n".join(rows), encoding="utf-8")
    (curves,) = trainings(tmp_path / "train.log")
    assert curves.series("elapsed").values[-1] == int(clock)
    assert "slower-and-slower" in [finding.name for finding in diagnose(curves)]


def test_an_adapter_beside_a_log_is_known(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 1, "target_modules": ["q_proj"]}), encoding="utf-8"
    )
    rows = [{"step": step, "loss": 4.2 - 0.001 * step + 0.02 * (step % 3), "grad_norm": 0.2} for step in range(1, 40)]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": rows}), encoding="utf-8")
    (curves,) = trainings(tmp_path)
    assert (curves.config["lora_rank"], curves.config["lora_target"]) == (1, "q_proj")
    assert [finding.name for finding in diagnose(curves)] == ["underfitting"]


@pytest.mark.parametrize(("fall", "codes"), [(1.0, []), (0.0, ["FD104"])])
def test_gradients_of_zero_while_the_loss_falls_are_those_of_a_layerwise_optimizer(
    fall: float, codes: list[str], tmp_path: Path
) -> None:
    rng = random.Random(1)
    rows = [
        {
            "event": "step",
            "step": step,
            "loss": 1.2 + fall * math.exp(-step / 60) + rng.gauss(0, 0.05),
            "grad_norm": 0.0,
        }
        for step in range(1, 301)
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (training,) = examine(tmp_path / "metrics.jsonl").trainings
    assert [finding.code for finding in training.findings] == codes
