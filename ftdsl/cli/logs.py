"""`ftc logs FILE [STAGE]`: what a stage prints; -f: as it prints it. Without a stage: the one that runs, or ran last."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from ftdsl.cli.common import add_recipe_arguments
from ftdsl.cli.status import seen_of

if TYPE_CHECKING:
    from ftdsl.observe.progress import StageProgress
    from ftdsl.run.control import Seen


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("logs", help="show what a stage prints", description=__doc__)
    parser.add_argument("file", metavar="FILE", help="a recipe")
    parser.add_argument("stage", metavar="STAGE", nargs="?", default="")
    add_recipe_arguments(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the stage has ended")
    parser.set_defaults(run=run)


def _named(seen: Seen, name: str) -> list[StageProgress]:
    return [stage for stage in seen.progress.stages if name in ("", stage.key, stage.folder)]


def _begun(seen: Seen, name: str) -> list[StageProgress]:
    """The stages of a name (of any, if it is empty) that have started, the last one last."""
    stages = _named(seen, name)
    return sorted((stage for stage in stages if stage.started is not None), key=lambda stage: stage.started or 0)


def _will_begin(seen: Seen, name: str) -> bool:
    """Whether a stage of the name waits for others, or the run has only just started."""
    return seen.running and not _begun(seen, name) and bool(_named(seen, name) or not seen.progress.stages)


def run(args: argparse.Namespace) -> int:
    """Exit 0; 1 when there is no such run or stage."""
    from ftdsl.observe.progress import Status
    from ftdsl.run.control import look

    seen = seen_of(args)
    try:
        while args.follow and seen is not None and _will_begin(seen, args.stage):
            time.sleep(0.2)
            seen = seen_of(args)
    except KeyboardInterrupt:
        return 0
    if seen is None:
        return 1
    begun = _begun(seen, args.stage)
    running = [stage for stage in begun if stage.status is Status.RUNNING]
    if not begun:
        names = ", ".join(stage.key for stage in seen.progress.stages)
        print(
            f"error: no stage `{args.stage}` has run; stages: {names}" if args.stage else "error: no stage has run",
            file=sys.stderr,
        )
        return 1
    stage = (running or begun)[-1]
    log = seen.progress.folder / stage.folder / "log.txt"
    from ftdsl.session import open_regular

    def goes_on() -> bool:
        now = look(seen.home)
        lives = now is not None and now.running and now.progress.folder == seen.progress.folder
        return now is not None and lives and now.progress.stage(stage.key).status is Status.RUNNING

    try:
        while args.follow and not log.exists() and goes_on():  # the stage is known before its first output
            time.sleep(0.2)
        with open_regular(log) as handle:
            more = True
            while more:
                more = args.follow and goes_on()  # asked before the end is read: what a stage prints last is not lost
                while piece := handle.read(1 << 16):
                    sys.stdout.buffer.write(piece)
                    sys.stdout.buffer.flush()
                if more:
                    time.sleep(0.2)
    except KeyboardInterrupt:
        pass
    return 0
