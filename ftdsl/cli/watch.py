"""`ftc watch FILE`, `ftc attach FILE`: a run's live view, in any terminal. Ctrl-C leaves a run that is watched, and stops one
that is attached to, as it would where the run was started.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from ftdsl.cli.common import add_recipe_arguments, retyped
from ftdsl.cli.status import seen_of, study_of

if TYPE_CHECKING:
    from ftdsl.run.control import Seen


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    register_as("watch", "show a run while it continues; Ctrl-C leaves it", verbs)


def register_as(verb: str, help: str, verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(verb, help=help, description=__doc__)
    parser.add_argument("file", metavar="FILE", help="a recipe")
    add_recipe_arguments(parser)
    parser.add_argument("--plain", action="store_true", help="lines instead of a live view")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 if the run succeeded, or the view was left; 1 if a stage failed or there is no run, 3 if a gate failed."""
    from ftdsl.cli.ending import show_outcome
    from ftdsl.cli.run import view_of
    from ftdsl.observe.progress import Status
    from ftdsl.run.control import supervisor_of
    from ftdsl.run.events import Follower
    from ftdsl.run.outcome import Outcome

    seen = seen_of(args)
    if seen is None:
        return 1
    if (study := study_of(seen)) is not None and study.pid == seen.supervisor:
        return _watch_study(seen, args)
    follower, view, asked = Follower(seen.progress.folder), view_of(plain=args.plain), 0
    follower.update()
    view.begin(follower.progress, time.time())
    while True:
        try:
            follower.update()
            view.update(follower.progress, time.time())
            if not supervisor_of(seen.home):
                break
            time.sleep(0.1)
        except KeyboardInterrupt:
            if args.verb == "watch":
                view.end(follower.progress, time.time())
                print(f"the run continues; ftc cancel {args.file} stops it", file=sys.stderr)
                return 0
            asked += 1
            os.kill(seen.supervisor, signal.SIGINT)
    follower.update()
    view.end(follower.progress, time.time())
    failed, refused = (follower.progress.having(status) for status in (Status.FAILED, Status.REFUSED))
    stopped = follower.progress.having(Status.STOPPED)
    status = 130 if stopped else 1 if failed else 3 if refused else 0
    show_outcome(
        Outcome(args.file, progress=follower.progress).ended(status), smoke=False, recipe=retyped(args.file, args)
    )
    return status


def _watch_study(seen: Seen, args: argparse.Namespace) -> int:
    """Exit 0 when the study has ended with a best trial, or is left; 1 without one."""
    from ftdsl.cli.ending import study_lines
    from ftdsl.cli.run import study_view
    from ftdsl.observe.study import headline
    from ftdsl.run.control import supervisor_of
    from ftdsl.run.project import study_folder

    shown, asked = "", 0
    with study_view(study_folder(seen.home), plain=args.plain) as view:
        while supervisor_of(seen.home):
            try:
                study = study_of(seen)
                if study is not None and args.plain and headline(study) != shown:
                    shown = headline(study)
                    view.note(shown)
                time.sleep(0.2)
            except KeyboardInterrupt:
                if args.verb == "watch":
                    print(f"it runs on; ftc cancel {args.file} stops it", file=sys.stderr)
                    return 0
                asked += 1
                os.kill(seen.supervisor, signal.SIGINT)
    study = study_of(seen)
    if study is None:
        return 1
    print("\n".join(study_lines(study)))
    return 130 if asked else 0 if study.best else 1
