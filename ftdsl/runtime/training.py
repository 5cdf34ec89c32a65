"""What every engine's program needs around a training: its folder before it starts, its losses afterwards, how it ends."""

from __future__ import annotations

import argparse
import atexit
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import checkpoints, events, failures, shipping, stale_locks
from .report import Log, StageError, carried_out, lacks
from .stage import Part, Stage, read

Work = Callable[[Stage, tuple[Part, ...], Log], int]


def fresh(stage: Stage, log: Log) -> int:
    """Before a stage trains: make its destination its own, with a whole checkpoint to resume from; anything else is set aside.
    Raises: StageError.

    The engine resumes from any checkpoint it finds in its output_dir, also from one that another recipe left there.
    """
    for lock in stale_locks.unlock():
        print(f"{lock} was left by a build that was broken off; it is gone")
    if os.environ.get("NODE_RANK", "0") != "0":
        return 0  # the first node's business: all see one folder
    output = Path(stage.output)
    claim(output, stage)
    for aside, why in checkpoints.set_broken_aside(output):
        left = checkpoints.newest_first(output)
        then = f"resumes from {left[0].name}" if left else "starts anew"
        text = f"{aside.name.removeprefix('broken-')} is damaged ({why}); it is now {aside.name}, and the stage {then}"
        log.warn(StageError(text, "save", code="FT806"))
    return 0


def claim(output: Path, stage: Stage) -> None:
    """Raises: StageError if something there was not made by a stage."""
    shipping.claim(output, stage.stage)


def restorable() -> None:
    """Several processes on a CPU save their optimizer as lying on `cpu:0`, which torch 2.13 does not know when it is loaded
    again: a checkpoint could not be gone on with.
    """
    import torch

    torch.serialization.register_package(30, _no_tag, _on_cpu)


def _no_tag(storage: Any) -> None:
    """Storages are tagged by torch itself."""


def _on_cpu(storage: Any, location: str) -> Any:
    return storage if location.startswith("cpu:") else None


def hopeless(stage: Stage) -> str:
    """Why the start before failed, where torchrun starts ranks again and a person has to mend something; "" otherwise."""
    seen = events.read(Path(stage.stage) / events.METRICS)
    if not seen or seen[-1]["event"] != "end":
        return ""
    failure = failures.failure_of(1, seen[-1:])
    return failure.why if failure.kind == failures.MEND else ""


def weights_of(folder: Path) -> list[Path]:
    return [path for path in (*folder.glob("*.safetensors"), *folder.glob("*.bin")) if path.stem != "training_args"]


def losses_of(stage: str, engines: float | None) -> dict[str, float]:
    """First, last and mean training loss of this stage, from its own events.

    engines: what the engine calls the mean. After a resume it is the sum of the losses since, over all steps: those before are
    added, as they were logged.
    """
    curve, since, resumed = learning_curve(events.read(Path(stage) / events.METRICS))
    if not curve:
        return {} if engines is None else {"train_loss": engines}
    losses = {"first_loss": curve[0][1], "last_loss": curve[-1][1]}
    if engines is not None:
        total = curve[-1][0]
        losses["train_loss"] = engines + since / total if resumed and total else engines
    return losses


def rewards_of(stage: str) -> dict[str, float]:
    """First and last mean reward of a stage that trains on its own answers, each over a tenth of its logged steps; else {}."""
    rewards: dict[int, float] = {}
    for event in events.read(Path(stage) / events.METRICS):
        if event["event"] == "step" and "reward" in event.get("metrics", {}):
            rewards[event["step"]] = event["metrics"]["reward"]
    values = [rewards[step] for step in sorted(rewards)]
    part = max(1, len(values) // 10)
    mean = {"first_reward": values[:part], "reward": values[-part:]}
    return {name: sum(of) / len(of) for name, of in mean.items() if of}


def learning_curve(events_read: list[dict[str, Any]]) -> tuple[list[tuple[int, float]], float, bool]:
    """(step, mean loss since the point before) of a training with all its resumes; the sum of the losses up to the step it was
    last resumed at; and whether it was.
    """
    curve: list[tuple[int, float]] = []
    before, start = 0.0, 0
    for event in events_read:
        if event["event"] == "start":
            start = event.get("step", 0)
            curve = [point for point in curve if point[0] <= start]
            steps = [0, *(step for step, _ in curve)]
            before = sum(loss * (step - last) for (step, loss), last in zip(curve, steps, strict=False))
            before += curve[-1][1] * (start - curve[-1][0]) if curve else 0.0  # what was not logged before it broke off
        elif event["event"] == "step" and "loss" in event:
            curve = [point for point in curve if point[0] < event["step"]]
            curve.append((event["step"], event["loss"]))
    return curve, before, start > 0


def reload(folder: Path) -> None:
    """What was written can be loaded again, on its own, and answers. Raises: StageError."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        with torch.no_grad():
            scores = model(**tokenizer("a question", return_tensors="pt")).logits
    except Exception as error:
        text = f"what was merged cannot be loaded again: {type(error).__name__}: {error}"
        raise StageError(text, "model", "tokenizer.resize", "to", code="FT970") from error
    if not bool(torch.isfinite(scores).all()):
        raise StageError("what was merged gives numbers that are none", "dtype", "to", code="FT970")
    print(f"loaded again from {folder}: {scores.shape[-1]:,} scores for each token")


def run(args: argparse.Namespace, module: str, title: str, works: Mapping[str, Work]) -> int:
    """The exit status of a stage. args: `work`, `stage` (its file) and `part`; works: what the engine does, by name;
    module: the package, whose name each program has.
    """
    stage = read(args.stage)
    Path(stage.stage).mkdir(parents=True, exist_ok=True)
    if args.work == "fresh":
        return carried_out(lambda log: fresh(stage, log), Log(stage.stage), last=False)
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) and (known := hopeless(stage)):
        print(f"error: {known}; started again, the same would happen", file=sys.stderr)
        return 1
    parts = stage.parts if args.part is None else stage.parts[args.part - 1 : args.part]
    if lacks(module, title):
        return 1
    return carried_out(lambda log: works[args.work](stage, parts, log), Log(stage.stage))


def leave(status: int) -> None:
    """End at once where there are several ranks: everything is written, and DeepSpeed's own clearing up aborts about one
    two-process ZeRO-3 run in seven (seen with 0.19.8), which would call a good run failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        atexit._run_exitfuncs()  # trackers send their last lines there
        os._exit(status)
    sys.exit(status)
