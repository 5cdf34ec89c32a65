"""`retry.py TIMES --stage FOLDER -- COMMAND…`: restarts a stage that failed; it resumes from its last checkpoint.

Not after failures that the user has to fix (`failures.py`), nor after a request to stop; after an unknown failure once.
Rollbacks of a training are counted over all starts (guard.json), so restarts and rollbacks do not multiply. Standard library.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

if not __package__:  # run by path: its folder becomes the package `runtime`, and shadows none of the engine's modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = Path(__file__).resolve().parent.name
    __import__(__package__)

from . import checkpoints, events, failures

PAUSE = 1.0
"""Seconds before a new start: ports of the dead one are given back by then."""


def seen_of(stage: str) -> list[events.Event]:
    """Events of all starts of a stage."""
    return events.read(Path(stage) / events.METRICS)


def set_broken_aside(stage: str) -> list[tuple[Path, str]]:
    """What broke may have broken a checkpoint that it was writing."""
    try:
        output = json.loads((Path(stage) / "stage.json").read_bytes()).get("output")
    except (OSError, ValueError, AttributeError):
        return []
    return checkpoints.set_broken_aside(Path(output)) if output else []


def record(stage: str, seen: list[events.Event], anomaly: str, action: str, message: str) -> None:
    """An entry of the ledger."""
    step = next((event["step"] for event in reversed(seen) if event["event"] == "step"), 0)
    with contextlib.suppress(OSError):
        events.append(Path(stage) / events.METRICS, "guard", step=step, anomaly=anomaly, action=action, message=message)


def main(argv: list[str]) -> int:
    """The exit status of the last start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("times", type=int)
    parser.add_argument("--stage", required=True)
    at = argv.index("--") if "--" in argv else len(argv)
    args, command = parser.parse_args(argv[:at]), argv[at + 1 :]
    stopped: list[int] = []
    running: list[subprocess.Popen[bytes]] = []

    def stop(number: int, _: FrameType | None) -> None:
        stopped.append(number)
        for process in running:
            process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    unknown = 0
    for start in range(args.times + 1):
        before = len(seen_of(args.stage))
        running[:] = [subprocess.Popen(command)]
        status = running[0].wait()
        if not status or stopped or start == args.times:
            break
        seen = seen_of(args.stage)
        failure = failures.failure_of(status, seen[before:])
        unknown += failure.kind == failures.UNKNOWN
        if failure.kind == failures.MEND or unknown > failures.UNKNOWN_STARTS:
            break
        for aside, why in set_broken_aside(args.stage):
            print(f"== {args.stage}: {aside.name} is damaged: {why}")
            record(
                args.stage, seen, "checkpoint", "set aside", f"{aside.name.removeprefix('broken-')} is damaged ({why})"
            )
        text = f"{failure.why}; start {start + 2} of {args.times + 1}"
        record(args.stage, seen, "restart", "restarted", text)
        print(f"== {args.stage}: ended with status {status}; {text}", flush=True)
        time.sleep(PAUSE)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
