"""Where a text is to go: versions, and which keys they have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property

from ftdsl import catalog
from ftdsl.catalog.history import MAIN
from ftdsl.engines.llamafactory.abilities import NAME
from ftdsl.record import frozen

ENGINE = NAME


class GoalError(Exception):
    """A version that cannot be gone to; the message is a sentence."""


def versions_of(given: Sequence[str]) -> dict[str, str]:
    """`transformers==5.15` -> package and version. Raises: GoalError."""
    found = {}
    for text in given:
        package, equals, version = text.partition("==")
        if not equals or not re.fullmatch(r"\d+(\.\w+)*", version):
            raise GoalError(f"`{text}` names no version: write PACKAGE==VERSION, for example transformers==5.15")
        known = catalog.versions(package)
        if not known:
            raise GoalError(f"`{package}` is not known here; known: {', '.join(catalog.packages())}")
        if catalog.numbers(version) < catalog.numbers(known[0])[: len(catalog.numbers(version))]:
            raise GoalError(f"{package} {version} is older than the oldest that is known ({known[0]})")
        found[package] = version
    return found


@frozen
class Goal:
    """`to` and `before`: package -> version; `before` as far as it is known."""

    to: Mapping[str, str]
    before: Mapping[str, str]
    packages: tuple[str, ...] = (ENGINE, "transformers")

    def facts(self, package: str) -> str:
        """The known version whose facts count for a package afterwards."""
        if package in self.to:
            return catalog.nearest(package, self.to[package]).version
        if package == "transformers" and ENGINE in self.to:
            return catalog.beside_engine(ENGINE, self.facts(ENGINE), package)
        if package in self.before:
            return catalog.nearest(package, self.before[package]).version
        return catalog.newest(package)

    def schema_of(self, package: str) -> Mapping[str, catalog.Fact]:
        return catalog.schema(package, self.facts(package))

    @cached_property
    def schema(self) -> Mapping[str, catalog.Fact]:
        """Every key that will be taken."""
        return {name: fact for package in reversed(self.packages) for name, fact in self.schema_of(package).items()}

    def had(self, package: str, key: str) -> bool:
        """Whether a package is known to have had a key before."""
        version = self.before.get(package)
        return version is not None and key in catalog.schema(package, version)

    def takes(self, key: str) -> bool:
        """Whether a key exists afterwards; of an open one (`fsdp_config.x`) whether what holds it does."""
        return key in self.schema or (self.packages[0] not in MAIN and key.partition(".")[0] in self.schema)
