"""`toy_training.py FOLDER STEPS INPUT TRACE`: a training without a model, for tests that disturb runs. Standard library only.

Two ranks, each in a session of its own, as torchrun starts them; when one dies the other is ended. Rank 0 takes steps whose value
depends on every step before, saves a checkpoint every four, and resumes from it. What it does goes into TRACE, which lies outside
the run folder: `FOLDER PID step N` before a step counts, `FOLDER PID saved N` once a checkpoint is on disk.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PAUSE, EVERY = 0.02, 4


def note(trace: str, *parts: object) -> None:
    file = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(file, (" ".join(map(str, parts)) + "\n").encode())
    os.close(file)


def write(path: str, document: object) -> None:
    beside = Path(f"{path}.new")
    with beside.open("w", encoding="utf-8") as handle:
        json.dump(document, handle)
        handle.flush()
        os.fsync(handle.fileno())
    beside.replace(path)


def event(folder: str, **fields: object) -> None:
    with Path(folder, "metrics.jsonl").open("a", encoding="utf-8") as handle:
        handle.write(json.dumps({"time": time.time(), "schema": 1, **fields}) + "\n")


def train(folder: str, steps: int, source: str, trace: str) -> None:
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    note(trace, folder, os.getpid(), "start")
    try:
        step, value = json.loads(Path(folder, "checkpoint.json").read_bytes())
    except FileNotFoundError:
        step, value = 0, hashlib.sha256(Path(source).read_bytes()).hexdigest()
    event(folder, event="start", step=step, total_steps=steps)
    while step < steps:
        time.sleep(PAUSE)
        step, value = step + 1, hashlib.sha256(f"{value} {step}".encode()).hexdigest()
        note(trace, folder, os.getpid(), "step", step)
        event(folder, event="step", step=step, total_steps=steps, loss=int(value[:4], 16) / 65536)
        if step % EVERY == 0 or step == steps or stopped:
            write(f"{folder}/checkpoint.json", [step, value])
            note(trace, folder, os.getpid(), "saved", step)
        if stopped and step < steps:
            sys.exit(143)
    write(f"{folder}/model.json", {"weights": value, "padding": "x" * 20_000})
    loss = int(value[:8], 16) / 2**32
    write(f"{folder}/result.json", {"kind": "files", "path": f"{folder}/model.json", "metrics": {"loss": loss}})
    note(trace, folder, os.getpid(), "end")


def launch(arguments: list[str]) -> int:
    """Both ranks; the status of the first that ends badly."""
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, *arguments], env={**os.environ, "RANK": rank}, start_new_session=True
        )
        for rank in "01"
    ]
    signal.signal(signal.SIGTERM, lambda *_: ranks[0].terminate())
    status = None
    while status is None:
        time.sleep(0.01)
        ended = [rank.poll() for rank in ranks]
        status = ended[0] if ended[0] is not None else ended[1]
    for rank in ranks:
        rank.kill()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    if (rank := os.environ.get("RANK")) is None:
        sys.exit(launch(sys.argv[1:]))
    if rank == "1":
        time.sleep(600)
    train(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
