"""A package's requirements: from its metadata, and from checks at run time; they differ, so both are kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from email.parser import HeaderParser
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from ftdsl.catalog.extract.packages import Package

PYTHON = "3.11"
"""The Python for which conditional requirements are read: the oldest that ftdsl runs on."""

OURS = ("transformers", "accelerate", "peft", "trl", "deepspeed", "torch", "datasets", "tokenizers")


def pins(package: Package, checks: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Package -> `metadata` (with `extra` if only that extra requires it), `check` (with `file` if not every run checks it)."""
    requirements: dict[str, dict[str, Any]] = {}
    for text in HeaderParser().parsestr(package.metadata()).get_all("Requires-Dist", []):
        requirement = Requirement(text)
        name = str(canonicalize_name(requirement.name))
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", str(requirement.marker or ""))
        if not _applies(requirement, extra[1] if extra else "") or (extra and name in requirements):
            continue
        if extra and package.name != "llamafactory":
            continue  # extras of other packages are for their developers
        requirements[name] = {"metadata": str(requirement.specifier)} | ({"extra": extra[1]} if extra else {})
    for name, check in checks.items():
        entry = {"check": check["requires"]} | ({"file": check["file"]} if "file" in check else {})
        requirements[canonicalize_name(name)] = requirements.get(canonicalize_name(name), {}) | entry
    return requirements


def _applies(requirement: Requirement, extra: str) -> bool:
    environment = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0", "extra": extra}
    return requirement.marker is None or requirement.marker.evaluate({**environment, "sys_platform": "linux"})


def newest(pin: Mapping[str, Any], versions: Iterable[str]) -> str | None:
    """The newest of the versions that metadata and check both admit."""
    wanted = SpecifierSet(",".join(text for text in (pin.get("metadata"), pin.get("check")) if text))
    admitted = [version for version in versions if wanted.contains(version)]
    return admitted[-1] if admitted else None
