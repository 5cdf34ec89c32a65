"""What was compiled for one version of an engine is not run by another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ftdsl.run.environments import Environment
from ftdsl.run.prepare import obstacles
from ftdsl.run.resources import Resources, of_this_machine
from tests.conftest import ROWS, Outcome, small


@pytest.fixture
def machine() -> Resources:
    return of_this_machine({}, 1)


@pytest.mark.parametrize(
    ("pin", "here", "expected"),
    [
        ('engine = llamafactory("0.9.3")', "0.9.5", "is compiled for llamafactory 0.9.3 (the recipe), and p has 0.9.5"),
        ('engine = llamafactory("0.9.5")', "0.9.5", ""),
        ("", "0.9.5", ""),
    ],
)
def test_another_version_is_an_obstacle(
    pin: str, here: str, expected: str, machine: Resources, checked: Callable[..., Outcome]
) -> None:
    outcome = checked(small(file=pin), ROWS)
    assert outcome.checked.recipe
    environment = Environment(Path("p"), "", packages={"llamafactory": here})
    environments = {"": environment, "llamafactory": environment}
    versions = outcome.checked.recipe.versions
    found = obstacles(list(outcome.checked.jobs), environments, machine, versions, {})
    assert [fault.message for _, fault in found] == [expected] * bool(expected)
