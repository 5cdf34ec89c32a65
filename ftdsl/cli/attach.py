"""`ftc attach FILE`: a run's live view; Ctrl-C stops the run, as in the terminal that started it."""

from __future__ import annotations

import argparse

from ftdsl.cli import watch


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    watch.register_as("attach", "show a run; Ctrl-C stops it", verbs)


run = watch.run
