"""A package's files: in a wheel, a source distribution, or the site-packages of an environment."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from abc import ABC, abstractmethod
from functools import cache, cached_property
from pathlib import Path

WITHOUT_WHEELS = frozenset({"deepspeed"})
"""Published as source only. pip prepares their metadata, which runs their setup.py, in an isolated environment."""


class Package(ABC):
    """The files of one version of a package, by installed path (`trl/trainer/dpo_config.py`)."""

    def __init__(self, name: str, version: str) -> None:
        self.name = name
        self.version = version

    @abstractmethod
    def names(self) -> list[str]:
        """All paths, sorted."""

    @abstractmethod
    def text(self, path: str) -> str:
        """A file's text. Raises: KeyError, OSError if it is missing."""

    @abstractmethod
    def metadata(self) -> str:
        """METADATA or PKG-INFO."""

    def below(self, folder: str, suffix: str = ".py") -> list[str]:
        """Paths of a folder and those in it."""
        return [name for name in self.names() if name.startswith(f"{folder}/") and name.endswith(suffix)]

    def has(self, path: str) -> bool:
        return path in self._known

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.names())


class Wheel(Package):
    """A `.whl`."""

    def __init__(self, name: str, version: str, path: Path) -> None:
        super().__init__(name, version)
        self._zip = zipfile.ZipFile(path)

    def names(self) -> list[str]:
        return sorted(self._zip.namelist())

    def text(self, path: str) -> str:
        return self._zip.read(path).decode("utf-8")

    def metadata(self) -> str:
        return self.text(next(name for name in self.names() if name.endswith(".dist-info/METADATA")))


class Sdist(Package):
    """A `.tar.gz`; its first folder is left out of paths."""

    def __init__(self, name: str, version: str, path: Path) -> None:
        super().__init__(name, version)
        with tarfile.open(path) as archive:
            self._files = {
                member.name.partition("/")[2]: handle.read()
                for member in archive
                if member.name.endswith((".py", "/PKG-INFO")) and (handle := archive.extractfile(member))
            }

    def names(self) -> list[str]:
        return sorted(self._files)

    def text(self, path: str) -> str:
        return self._files[path].decode("utf-8")

    def metadata(self) -> str:
        return self.text("PKG-INFO")


class Installed(Package):
    """A package in a site-packages folder. Raises: LookupError if it is missing."""

    def __init__(self, name: str, site: Path) -> None:
        folders = sorted(site.glob(f"{name}-*.dist-info"))
        if not folders:
            raise LookupError(f"{name} is not in {site}")
        super().__init__(name, folders[-1].name.removeprefix(f"{name}-").removesuffix(".dist-info"))
        self._site, self._info = site, folders[-1]

    def names(self) -> list[str]:
        return sorted(path.relative_to(self._site).as_posix() for path in (self._site / self.name).rglob("*.py"))

    def text(self, path: str) -> str:
        return (self._site / path).read_text(encoding="utf-8")

    def metadata(self) -> str:
        return (self._info / "METADATA").read_text(encoding="utf-8")


def fetched(name: str, version: str, cache: Path) -> Package:
    """A version from the package index, by `pip download`, kept in `cache`. Raises: CalledProcessError."""
    folder = cache / name / version
    if not _archive(folder):
        kind = [] if name in WITHOUT_WHEELS else ["--only-binary", ":all:"]
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", *kind, "-d", str(folder)]
        subprocess.run([*command, f"{name}=={version}"], check=True)
    path = _archive(folder)
    assert path is not None
    return Wheel(name, version, path) if path.suffix == ".whl" else Sdist(name, version, path)


def _archive(folder: Path) -> Path | None:
    archives = sorted([*folder.glob("*.whl"), *folder.glob("*.tar.gz")])
    return archives[0] if archives else None


@cache
def published(name: str) -> list[str]:
    """All final releases of a package, oldest first, from `pip index versions`."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "index", "versions", name], capture_output=True, text=True, check=True
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("Available versions:"))
    versions = [version.strip() for version in line.partition(":")[2].split(",")]
    return sorted(versions, key=lambda version: [int(part) for part in version.split(".")])
