"""`retry.py TIMES --stage FOLDER -- COMMAND…`: a launcher started anew when it broke, the stage going on from its checkpoint.

Not after what a person must mend (the last event in metrics.jsonl says so), nor when this was asked to stop: the same would
come of it. Standard library.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

if (
    not __package__
):  # run by path: its folder becomes the package `runtime`, and stands in for none of the engine's modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = Path(__file__).resolve().parent.name
    __import__(__package__)

from . import checkpoints, events

PAUSE = 1.0
"""Seconds before a new start: ports of the dead one are given back by then."""


def hopeless(stage: str) -> bool:
    """Whether the stage ended for a reason that it would meet again."""
    found = events.read(Path(stage) / events.METRICS)
    return bool(found and found[-1]["event"] == "end" and found[-1].get("message"))


def set_broken_aside(stage: str) -> list[tuple[Path, str]]:
    """What broke may have broken a checkpoint that it was writing."""
    try:
        output = json.loads((Path(stage) / "stage.json").read_bytes()).get("output")
    except (OSError, ValueError, AttributeError):
        return []
    return checkpoints.set_broken_aside(Path(output)) if output else []


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
    for start in range(args.times + 1):
        running[:] = [subprocess.Popen(command)]
        status = running[0].wait()
        if not status or stopped or start == args.times or hopeless(args.stage):
            break
        for aside, why in set_broken_aside(args.stage):
            print(f"== {args.stage}: {aside.name} is damaged: {why}")
        print(f"== {args.stage}: ended with status {status}; start {start + 2} of {args.times + 1}", flush=True)
        time.sleep(PAUSE)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
