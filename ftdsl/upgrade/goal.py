"""The target of an upgrade: versions, and the keys that they have."""

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
    """An invalid target version; the message is a sentence."""


def versions_of(arguments: Sequence[str]) -> dict[str, str]:
    """`transformers==5.15` -> package and version. Raises: GoalError."""
    versions = {}
    for text in arguments:
        package, equals, version = text.partition("==")
        if not equals or not re.fullmatch(r"\d+(\.\w+)*", version):
            raise GoalError(f"`{text}` is not a version: write PACKAGE==VERSION, for example transformers==5.15")
        known_versions = catalog.versions(package)
        if not known_versions:
            raise GoalError(f"the package `{package}` is not known; known: {', '.join(catalog.packages())}")
        if catalog.numbers(version) < catalog.numbers(known_versions[0])[: len(catalog.numbers(version))]:
            raise GoalError(f"{package} {version} is older than the oldest known version ({known_versions[0]})")
        versions[package] = version
    return versions


@frozen
class Goal:
    """to, before: package -> version; `before` as far as it is known."""

    to: Mapping[str, str]
    before: Mapping[str, str]
    packages: tuple[str, ...] = (ENGINE, "transformers")

    def facts(self, package: str) -> str:
        """The version in the catalogue whose facts are used for a package after the upgrade."""
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
        """Every key that exists after the upgrade."""
        return {name: fact for package in reversed(self.packages) for name, fact in self.schema_of(package).items()}

    def had(self, package: str, key: str) -> bool:
        """Whether a package is known to have the key before the upgrade."""
        version = self.before.get(package)
        return version is not None and key in catalog.schema(package, version)

    def takes(self, key: str) -> bool:
        """Whether a key exists after the upgrade; for a key of an open section (`fsdp_config.x`), whether the section does."""
        return key in self.schema or (self.packages[0] not in MAIN and key.partition(".")[0] in self.schema)
