"""Programs that are no engine: what a script that trains with something of its own starts instead."""

from __future__ import annotations

from ftdsl.importers import launchers
from ftdsl.importers.bash_words import Word
from ftdsl.importers.shell import Simple

_NO_TRAINING = ("torch", "accelerate", "deepspeed", "pip", "venv", "http")
"""Modules that launch or prepare, and train nothing themselves."""


def other_script(simple: Simple, *, sourced: bool = False) -> Word | None:
    """The shell script that a command starts (`bash x.sh`, `./x.sh`; `source x.sh` if sourced); none that it copies or edits."""
    for at, word in enumerate(simple.words):
        if word.text.endswith((".sh", ".bash")):
            starts = all(
                before.text in ("source", ".") if sourced else launchers.is_wrapper(before.text)
                for before in simple.words[:1]
                if at
            )
            return word if starts else None
    return None


def own_program(simple: Simple) -> Word | None:
    """The Python program or module that a command starts, by itself or with a launcher; None where it starts none."""
    words = list(simple.words)
    at = launchers.start_of([word.text for word in words])
    for before, word in zip(words[at:], words[at + 1 :], strict=False) if at is not None else ():
        starts = word.text.endswith(".py") or before.text in ("-m", "--module")
        if starts and word.text.partition(".")[0] not in _NO_TRAINING:
            return word
    return None
