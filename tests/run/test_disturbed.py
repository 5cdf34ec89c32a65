"""Runs that are disturbed at random moments end as undisturbed ones do: the same metrics, nothing done twice, nothing lost, no
process left. MOMENTS: how many moments are tried (100; `make moments`)."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from ftdsl.run.control import supervisor_of
from tests.conftest import until
from tests.run import disturbed
from tests.run.disturbed import KINDS, Place, check_trace, placed

SEED = 20261130
MOMENTS = int(os.environ.get("MOMENTS") or (22 if os.environ.get("CI") else 100))
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[float, object]:
    """Seconds that a run takes here, and its metrics."""
    with placed(tmp_path_factory.mktemp("undisturbed")) as place:
        began = time.monotonic()
        place.start()
        status, text = place.wait()
        assert status == 0, text
        seconds = time.monotonic() - began
        check_trace(place.trace())
        return seconds, metrics(place)


def metrics(place: Place) -> object:
    stages = place.document()["stages"]
    assert isinstance(stages, list)
    return {stage["stage"]: (stage["kind"], stage["metrics"]) for stage in stages}


@pytest.mark.parametrize("number", range(MOMENTS))
def test_any_moment(number: int, undisturbed: tuple[float, object], tmp_path: Path) -> None:
    kind = list(KINDS)[number % len(KINDS)]
    rng = random.Random(SEED + number)
    seconds, expected = undisturbed
    if kind == "full disk" and os.getuid():
        pytest.skip("a small disk is mounted by root alone")
    with placed(tmp_path) as place:
        disturbed.prepare(place, kind)
        prepared = len(place.undo)
        if number % 3 == 2:  # an earlier run has made the same; what is disturbed is one anew
            place.start()
            assert place.wait()[0] == 0
            (place.folder / "trace.txt").write_text("", encoding="utf-8")
            place.ended.clear()
        place.start(*["--fresh"] * (number % 3 == 2))
        time.sleep(moment := rng.uniform(0.1, 1.0) * seconds)
        KINDS[kind](place, rng)
        place.wait()
        for step in place.undo[prepared:]:
            step()
        del place.undo[prepared:]
        for _ in range(4):
            place.start()
            status, text = place.wait()
            if status == 0:
                break
            until(lambda: not supervisor_of(place.home), "it ends", 60)
        told = "\n".join(f"-- {status}\n{text}" for status, text in place.ended)
        about = f"{kind} after {moment:.2f} of {seconds:.2f} s\n{told}"
        assert place.ended[-1][0] == 0, about
        for status, text in place.ended:
            assert status in (0, 1, 130, 129, -1, -2, -9) and "Traceback" not in text and "bug" not in text, about
        assert len(place.ended) <= 3, f"it takes too many runs: {about}"
        assert metrics(place) == expected, about
        check_trace(place.trace())
        left = place.processes()
        assert not left, (about, left)
