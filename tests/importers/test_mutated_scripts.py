"""Scripts that are damaged: nothing crashes or hangs, and every place lies in the script."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from ftdsl.importers import commands, shell
from ftdsl.importers.commands import Report
from ftdsl.session import Session
from ftdsl.source import Source
from tests.importers.test_kinds import SAME

PIECES = (
    *"$( ${ } ) (( )) ' \" ` <<E | && ; do done if fi case esac $1 ${A[@]} ${A:- ${A% =( [[ ]] ! <<< {1..9999}".split(),
    "for i in ", "\\\n", "\n", "\x00", "é", "\ue000x\ue001", "eval ", "bash -c ", "<YOUR_PATH>", "\u00a0", "\r\n",
)  # fmt: skip
SECONDS = 5


def mutated(seed: random.Random) -> str:
    """A script with pieces put in, cut out, repeated, or taken from another one."""
    scripts = list(SAME.values())
    text = seed.choice(scripts)
    for _ in range(seed.randint(1, 8)):
        at, kind = seed.randrange(len(text) + 1), seed.random()
        if kind < 0.5:
            text = text[:at] + seed.choice(PIECES) * seed.choice((1, 1, 3, 50)) + text[at:]
        elif kind < 0.8:
            text = text[:at] + text[at + seed.randint(1, 30) :]
        else:
            other = seed.choice(scripts)
            start = seed.randrange(len(other))
            text = text[:at] + other[start : start + 80] + text[at:]
    return text


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(at, marks=pytest.mark.slow) for at in range(4, 200))])
@pytest.mark.slow
def test_damaged_scripts(seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    for _ in range(150):
        text = mutated(source)
        session = Session(env={})
        before = time.process_time()
        script = shell.read(Source("x.sh", text), session.sink)
        report = Report(script.notes)
        for simple in script.commands[:50]:
            commands.config(simple, script, tmp_path, session, report)
            assert all(0 <= word.span.start <= word.span.end <= len(text) for word in simple.words), text
        assert all(0 <= note.span.start <= note.span.end <= len(text) for note in script.notes if note.span), text
        assert time.process_time() - before < SECONDS, text
