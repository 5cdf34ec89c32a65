"""`ftc attach FILE`: a run's live view with its Ctrl-C, as where it was started."""

from __future__ import annotations

import argparse

from ftdsl.cli import watch


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    watch.register_as("attach", "come back to a run; Ctrl-C stops it", verbs)


run = watch.run
