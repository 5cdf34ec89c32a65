"""Where engines are: which Pythons are asked, in which order, and which versions of what they hold.

Read from folder names of installed packages, so nothing is started; `ftdsl.run.environments` is the one that runs them.
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
"""The project's own folder for engines, seen from where `ftc` is called."""

BESIDE = ("transformers", "accelerate", "peft", "trl", "deepspeed", "torch")
"""Packages whose versions count beside an engine's own."""

NAMED = ("--engine-python", "FTC_ENGINE_PYTHON", "the recipe")
"""Sources of a Python that somebody named: it is the only one asked."""

_SITES = (
    "lib/python3*/site-packages",
    "lib/python3*/dist-packages",
    "lib64/python3*/site-packages",
    "Lib/site-packages",
)


def may_be_brought(source: str) -> bool:
    """Whether whoever wrote the repository, and not who calls ftc, may be behind a Python."""
    return source == NAMED[2] or Path(source).is_relative_to(LOCAL)


def folder_of(engine: str) -> Path:
    """Where `ftc engine install` puts an engine."""
    return LOCAL / engine


def user_folder(engine: str, env: Mapping[str, str]) -> Path:
    """An engine shared by a user's projects."""
    base = Path(env.get("XDG_DATA_HOME") or Path(env.get("HOME", "~"), ".local", "share"))
    return base.expanduser() / "ftdsl" / "engines" / engine


def python_in(folder: Path) -> Path:
    return folder / "bin" / "python"


def candidates(engine: str, env: Mapping[str, str], *, flag: str = "", recipe: str = "") -> Iterator[tuple[Path, str]]:
    """Pythons in the order they are asked. A named one (flag, variable, recipe) is the only one asked."""
    for text, source in zip((flag, env.get("FTC_ENGINE_PYTHON", ""), recipe), NAMED, strict=True):
        if text:
            yield Path(text).expanduser(), source
            return
    for folder in (folder_of(engine), user_folder(engine, env)):
        if python_in(folder).exists():
            yield python_in(folder), str(folder)
    yield Path(sys.executable), "the Python that runs ftc"


def runnable(python: Path) -> Path:
    """A folder means the environment in it. Links are kept: they are what makes a virtual environment one."""
    inside = python_in(python) if python.is_dir() else python
    return Path.cwd() / inside if os.sep in str(inside) else inside


def installed(python: Path, files: Files) -> dict[str, str]:
    """Versions by distribution name of what an environment holds; empty for a Python that is not in one."""
    prefix = _on_path(runnable(python)).parent.parent
    for pattern in _SITES:
        for site in files.glob(prefix, pattern):
            if found := dict(_distributions(files.glob(site, "*.dist-info"))):
                return found
    return {}


def _on_path(python: Path) -> Path:
    """A bare name is looked up as a shell would."""
    if os.sep in str(python):
        return python
    from shutil import which

    return Path(which(str(python)) or python)


def _distributions(folders: list[Path]) -> Iterator[tuple[str, str]]:
    for folder in folders:
        name, _, version = folder.name.removesuffix(".dist-info").partition("-")
        yield re.sub(r"[-_.]+", "-", name).lower(), version


@frozen(eq=True)
class ResolvedVersion:
    """A version that counts, and why: `source` is a noun phrase. `facts`: the known version whose facts stand in for it
    ("" for a package whose facts are not kept)."""

    version: str
    source: str
    facts: str = ""

    @property
    def exact(self) -> bool:
        return self.facts in ("", self.version)


@frozen
class Versions:
    """The versions of an engine and of what stands beside it that a recipe or file is held to.

    installed: every distribution beside that engine where it is installed, None when none of that version is.
    """

    engine: str
    packages: Mapping[str, ResolvedVersion] = field(default_factory=dict)
    installed: frozenset[str] | None = None

    def of(self, package: str = "") -> str:
        """The version of a package (of the engine without one); "" when it is not known."""
        found = self.packages.get(package or self.engine)
        return found.version if found else ""

    def facts(self, package: str = "") -> str:
        """The known version whose facts count for it; "" for the newest there is."""
        found = self.packages.get(package or self.engine)
        return found.facts if found else ""

    @property
    def schema(self) -> Mapping[str, catalog.Fact]:
        """Every parameter these versions take."""
        return catalog.engine_schema(self.engine, self.facts(), self.facts("transformers"))

    def history(self, key: str) -> catalog.KeyHistory | None:
        """A parameter's history, in the engine or else in transformers."""
        return catalog.key_history(self.engine, key) or catalog.key_history("transformers", key)

    @property
    def told(self) -> str:
        """`llamafactory 0.9.3 (the recipe), transformers 4.52.4 (…)` where they are not those a reader expects, the
        newest that are known; else ""."""
        usual = usual_versions(self.engine)
        said = [
            f"{name} {one.version}{'' if one.exact else f', taken for {one.facts}'} ({one.source})"
            for name in (self.engine, "transformers")
            if (one := self.packages.get(name)) and (one.facts != usual.get(name) or not one.exact)
        ]
        return ", ".join(said)

    def refused(self) -> Iterator[tuple[str, ResolvedVersion, str]]:
        """(package, version, requirement) of what is there and the engine's own check at start does not take. What only
        its metadata excludes runs: pip would have said so."""
        for package, one in self.packages.items():
            pin = catalog.pins(self.engine, self.facts()).get(package)
            if pin and pin.check and not pin.file and not catalog.admits(pin.check, one.version):
                yield package, one, pin.check

    def outside(self) -> Iterator[tuple[str, ResolvedVersion, str]]:
        """(package, version, requirement) of what is there and only the engine's metadata does not take: it runs. DeepSpeed's
        bound is left out: what matters of it has a rule of its own (FT424)."""
        refused = {package for package, _, _ in self.refused()}
        for package, one in self.packages.items():
            pin = catalog.pins(self.engine, self.facts()).get(package)
            if pin and package not in (*refused, "deepspeed") and not catalog.admits(pin.metadata, one.version):
                yield package, one, pin.metadata

    def plain(self) -> dict[str, dict[str, Any]]:
        """For JSON: package -> version, source, and the version it is checked as when that is another."""
        return {
            name: {"version": one.version, "source": one.source} | ({} if one.exact else {"checked_as": one.facts})
            for name, one in self.packages.items()
        }


def usual_versions(engine: str) -> dict[str, str]:
    """What counts where nothing is pinned or installed: the newest engine, and the transformers it admits."""
    newest = catalog.versions(engine)[-1:]
    beside = catalog.beside_engine(engine, newest[0], "transformers") if newest else ""
    return dict.fromkeys((engine,), "".join(newest)) | {"transformers": beside}


def resolve_versions(engine: str, session: Session, *, version: str = "", python: str = "") -> Versions:
    """Which versions count: what is pinned (`version`, or the session's lock), else what is installed where a run would
    look (`python`: named by the recipe), else the newest that the engine's own pins admit."""
    found: dict[str, ResolvedVersion] = {}
    held = dict(session.pins)
    if version:
        found[engine] = _known(engine, version, "the recipe")
    elif engine in held:
        found[engine] = _known(engine, held[engine], "the lock")
    here, place = _environment(engine, session, python)
    if engine not in found:
        newest = catalog.versions(engine)[-1:]
        if here:
            found[engine] = _known(engine, here[engine], place)
        elif newest:
            found[engine] = _known(engine, newest[0], f"the newest {engine} that is known")
    chosen = found.get(engine)
    for package in BESIDE:
        if package in held:
            found[package] = _known(package, held[package], "the lock")
        elif chosen and here.get(engine) == chosen.version:
            if package in here:
                found[package] = _known(package, here[package], place)
        elif chosen and (best := catalog.beside_engine(engine, chosen.facts, package)):
            found[package] = _known(package, best, f"the newest that {engine} {chosen.facts} admits")
    there = bool(chosen) and here.get(engine) == found[engine].version
    return Versions(engine, found, frozenset(here) if there else None)


def _known(package: str, version: str, source: str) -> ResolvedVersion:
    facts = catalog.nearest(package, version).version if catalog.versions(package) else ""
    return ResolvedVersion(version, source, facts)


def _environment(engine: str, session: Session, python: str) -> tuple[dict[str, str], str]:
    """What the first environment with the engine holds, and where that is; nothing when there is none."""
    for path, source in candidates(engine, session.env, flag=session.engine_python, recipe=python):
        found = installed(path, session.files)
        if engine in found:
            return found, source if source not in NAMED else f"{path} ({source})"
    return {}, ""
