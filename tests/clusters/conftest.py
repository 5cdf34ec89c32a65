"""A Slurm for the tests of a file, and recipes that run on it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftdsl.language.resolve.resolve import Options
from ftdsl.observe.progress import NoView
from ftdsl.pipeline import compile_recipe
from ftdsl.run.carry_out import carry_out, environments_of
from ftdsl.run.outcome import Outcome
from ftdsl.run.prepare import Wishes
from ftdsl.session import Session
from tests.clusters.slurm import Slurm, missing
from tests.conftest import NOWHERE

ROWS = "".join(json.dumps({"instruction": f"q{n}", "output": f"a{n}"}) + "\n" for n in range(40))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    """Two nodes, a CPU partition beside the main one."""
    if why := missing():
        pytest.skip(why)
    partitions = {"main": "Nodes=ALL MaxTime=60", "cpu": "Nodes=n2 MaxTime=10"}
    with Slurm(2, partitions=partitions) as started:
        yield started


@pytest.fixture
def on_cluster(cluster: Slurm, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """The commands of Slurm find the cluster."""
    for name, value in cluster.env.items():
        monkeypatch.setenv(name, value)
    return cluster


def compiled_in(
    place: Path, text: str, options: Options | None = None, target: str = "slurm"
) -> tuple[object, Session]:
    (place / "rows.jsonl").write_text(ROWS, encoding="utf-8")
    (place / "r.ft").write_text(text, encoding="utf-8")
    session = Session()
    return compile_recipe(place / "r.ft", options or Options(), session, target=target), session


@pytest.fixture
def run_there(on_cluster: Slurm, tmp_path: Path) -> Callable[..., Outcome]:
    """Carry a recipe out on the cluster, or on this machine (`target="bash"`)."""

    def run(text: str, target: str = "slurm", **more: object) -> Outcome:
        compiled, session = compiled_in(tmp_path, text, target=target)
        assert compiled is not None, [one.message for one in session.sink.ordered()]
        environments = environments_of(compiled.jobs, compiled, {**os.environ, **NOWHERE})  # type: ignore[attr-defined]
        view = more.pop("view", NoView())
        home = tmp_path / "runs" / "r"
        return carry_out(compiled, Wishes(), environments, view, session=session, home=home, **more)  # type: ignore[arg-type]

    return run
