"""Engine environments: which Python interpreters are candidates, in which order, and which package versions are in force.

Installed versions are read from folder names, so no process is started; `ftdsl.run.environments` runs the interpreters.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from ftdsl import catalog
from ftdsl.record import frozen
from ftdsl.session import Files, Session

LOCAL = Path(".engines")
"""The project's own folder for engines, relative to the working directory."""

BESIDE = ("transformers", "accelerate", "peft", "trl", "deepspeed", "torch")
"""Packages whose versions matter besides the engine's own."""

NAMED = ("--engine-python", "FTC_ENGINE_PYTHON", "the recipe")
"""Sources of an explicitly named Python, which is then the only candidate."""

_SITES = (
    "lib/python3*/site-packages",
    "lib/python3*/dist-packages",
    "lib64/python3*/site-packages",
    "Lib/site-packages",
)


def is_from_repository(source: str) -> bool:
    """Whether a Python may come from the repository instead of from the user."""
    return source == NAMED[2] or Path(source).is_relative_to(LOCAL)


def folder_of(engine: str) -> Path:
    """The folder into which `ftc engine install` installs an engine."""
    return LOCAL / engine


def user_folder(engine: str, env: Mapping[str, str]) -> Path:
    """The folder of an engine that all projects of a user share."""
    base = Path(env.get("XDG_DATA_HOME") or Path(env.get("HOME", "~"), ".local", "share"))
    return base.expanduser() / "ftdsl" / "engines" / engine


def python_in(folder: Path) -> Path:
    return folder / "bin" / "python"


def candidates(
    engine: str, env: Mapping[str, str], *, flag: str = "", recipe: str = "", variable: str = ""
) -> Iterator[tuple[Path, str]]:
    """(Python, source) in the order in which they are tried. A named one (flag, variable, recipe) is the only candidate; flag and
    variable may name one for each of several engines: `llamafactory=P,trl=Q`.

    variable: the environment variable that names it, where that is not the engine's (a tool).
    """
    by_variable = env.get(variable, "") if variable else _of_engine(engine, env.get(NAMED[1], ""))
    named = (_of_engine(engine, flag), by_variable, recipe)
    for text, source in zip(named, (NAMED[0], variable or NAMED[1], NAMED[2]), strict=True):
        if text:
            yield Path(text).expanduser(), source
            return
    for folder in (folder_of(engine), user_folder(engine, env)):
        if python_in(folder).exists():
            yield python_in(folder), str(folder)
    yield Path(sys.executable), "the Python that runs ftc"


def _of_engine(engine: str, text: str) -> str:
    """The Python that a flag or variable names for an engine; "" if it names others."""
    if not by_engine(text):
        return text
    return dict(part.split("=", 1) for part in text.split(",") if "=" in part).get(engine, "")


def named_for(engine: str, text: str) -> bool:
    """Whether a flag or variable names a Python for just this engine."""
    return by_engine(text) and bool(_of_engine(engine, text))


def by_engine(text: str) -> bool:
    """Whether a flag or variable names Pythons by engine: `trl=P`."""
    return re.match(r"[a-z][\w-]*=", text) is not None


def runnable(python: Path) -> Path:
    """The interpreter of a path, which may be the folder of an environment. Links are not resolved: a virtual environment is
    recognised by the link.
    """
    inside = python_in(python) if python.is_dir() else python
    return Path.cwd() / inside if os.sep in str(inside) else inside


def installed(python: Path, files: Files) -> dict[str, str]:
    """Installed distributions of an environment: name -> version; empty for a Python that is not in one."""
    prefix = _on_path(runnable(python)).parent.parent
    for pattern in _SITES:
        for site in files.glob(prefix, pattern):
            if packages := dict(_distributions(files.names(site))):
                return packages
    return {}


def _on_path(python: Path) -> Path:
    """A bare name, looked up on PATH."""
    if os.sep in str(python):
        return python
    from shutil import which

    return Path(which(str(python)) or python)


def _distributions(folders: list[str]) -> Iterator[tuple[str, str]]:
    for folder in folders:
        if not folder.endswith(".dist-info"):
            continue
        name, _, version = folder.removesuffix(".dist-info").partition("-")
        yield re.sub(r"[-_.]+", "-", name).lower(), version


@frozen(eq=True)
class ResolvedVersion:
    """A version in force. source: why, as a noun phrase; facts: the version in the catalogue whose facts are used for it ("" for
    a package that the catalogue does not have)."""

    version: str
    source: str
    facts: str = ""

    @property
    def exact(self) -> bool:
        return self.facts in ("", self.version)


@frozen
class Versions:
    """The versions of an engine and its dependencies that a recipe or file is checked against.

    installed: all distributions in the environment of that engine; None if that version is not installed.
    """

    engine: str
    packages: Mapping[str, ResolvedVersion] = field(default_factory=dict)
    installed: frozenset[str] | None = None

    def of(self, package: str = "") -> str:
        """The version of a package (by default of the engine); "" if unknown."""
        version = self.packages.get(package or self.engine)
        return version.version if version else ""

    def facts(self, package: str = "") -> str:
        """The version in the catalogue whose facts are used for it; "" for the newest."""
        version = self.packages.get(package or self.engine)
        return version.facts if version else ""

    @property
    def schema(self) -> Mapping[str, catalog.Fact]:
        """Every parameter of these versions."""
        return catalog.engine_schema(self.engine, self.facts(), self.facts("transformers"))

    def history(self, key: str) -> catalog.KeyHistory | None:
        """A parameter's history in the engine, or else in transformers."""
        return catalog.key_history(self.engine, key) or catalog.key_history("transformers", key)

    @property
    def notable(self) -> str:
        """`llamafactory 0.9.3 (the recipe), transformers 4.52.4 (…)` if they are not the newest in the catalogue; else ""."""
        usual = usual_versions(self.engine)
        parts = [
            f"{name} {version.version}{'' if version.exact else f', checked as {version.facts}'} ({version.source})"
            for name in (self.engine, "transformers")
            if (version := self.packages.get(name)) and (version.facts != usual.get(name) or not version.exact)
        ]
        return ", ".join(parts)

    def refused(self) -> Iterator[tuple[str, ResolvedVersion, str]]:
        """(package, version, requirement) of packages that the engine's own check at start refuses. Versions that only its
        metadata excludes do run."""
        for package, version in self.packages.items():
            pin = catalog.pins(self.engine, self.facts()).get(package)
            if pin and pin.check and not pin.file and not catalog.admits(pin.check, version.version):
                yield package, version, pin.check

    def outside(self) -> Iterator[tuple[str, ResolvedVersion, str]]:
        """(package, version, requirement) of packages that only the engine's metadata excludes: they run. DeepSpeed is left
        out: a rule of its own (FT424) covers what matters."""
        refused = {package for package, _, _ in self.refused()}
        for package, version in self.packages.items():
            pin = catalog.pins(self.engine, self.facts()).get(package)
            if pin and package not in (*refused, "deepspeed") and not catalog.admits(pin.metadata, version.version):
                yield package, version, pin.metadata

    def plain(self) -> dict[str, dict[str, Any]]:
        """For JSON: package -> version, source, and the version that it is checked as, if different."""
        return {
            name: {"version": version.version, "source": version.source}
            | ({} if version.exact else {"checked_as": version.facts})
            for name, version in self.packages.items()
        }


def usual_versions(engine: str) -> dict[str, str]:
    """The versions used if nothing is pinned or installed: the newest engine, and the newest transformers that it admits."""
    newest = catalog.versions(engine)[-1:]
    beside = catalog.beside_engine(engine, newest[0], "transformers") if newest else ""
    return dict.fromkeys((engine,), "".join(newest)) | {"transformers": beside}


def resolve_versions(engine: str, session: Session, *, version: str = "", python: str = "") -> Versions:
    """The versions in force: pinned (`version`, or the session's lock), else installed where a run would look (`python`: named
    by the recipe), else the newest that the engine's own pins admit."""
    versions: dict[str, ResolvedVersion] = {}
    pins = dict(session.pins)
    if version:
        versions[engine] = _known(engine, version, "the recipe")
    elif engine in pins:
        versions[engine] = _known(engine, pins[engine], "the lock")
    packages, source = _environment(engine, session, python)
    if engine not in versions:
        newest = catalog.versions(engine)[-1:]
        if packages:
            versions[engine] = _known(engine, packages[engine], source)
        elif newest:
            versions[engine] = _known(engine, newest[0], f"the newest {engine} in the catalogue")
    chosen = versions.get(engine)
    for package in BESIDE:
        if package in pins:
            versions[package] = _known(package, pins[package], "the lock")
        elif chosen and packages.get(engine) == chosen.version:
            if package in packages:
                versions[package] = _known(package, packages[package], source)
        elif chosen and (best := catalog.beside_engine(engine, chosen.facts, package)):
            versions[package] = _known(package, best, f"the newest that {engine} {chosen.facts} admits")
    is_installed = bool(chosen) and packages.get(engine) == versions[engine].version
    return Versions(engine, versions, frozenset(packages) if is_installed else None)


def _known(package: str, version: str, source: str) -> ResolvedVersion:
    facts = catalog.nearest(package, version).version if catalog.versions(package) else ""
    return ResolvedVersion(version, source, facts)


def _environment(engine: str, session: Session, python: str) -> tuple[dict[str, str], str]:
    """The packages of the first environment with the engine, and its source; ({}, "") if there is none."""
    named = candidates(engine, session.env, flag=session.engine_python, recipe=python)
    others = candidates(
        engine, session.env, recipe=python
    )  # a Python named for the file's engine need not have this one
    for path, source in (*named, *others):
        packages = installed(path, session.files)
        if catalog.serves(engine, packages):
            return packages, source if source not in NAMED else f"{path} ({source})"
    return {}, ""
