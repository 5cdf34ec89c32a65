"""The catalogue's facts are those of the packages that are installed."""

from __future__ import annotations

import pytest

from ftdsl.catalog.extract.__main__ import differences, known_versions
from ftdsl.catalog.extract.packages import Installed
from ftdsl.run.environments import Environment

pytestmark = pytest.mark.real


@pytest.mark.parametrize("package", list(known_versions()))
def test_the_facts_are_those_of_the_installed_package(package: str, engine: Environment) -> None:
    site = next(engine.python.parent.parent.glob("lib/python*/site-packages"))
    assert differences(Installed(package, site)) == []
