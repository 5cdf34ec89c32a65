"""LLaMA-Factory's own examples, from its source distribution: fetched by pip, kept beside the engines, never committed."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

from tests.conftest import ROOT

VERSION = "0.9.5"
PLACE = ROOT / ".engines" / "sources"


def llamafactory() -> Path:
    """The folder of the source distribution."""
    folder = PLACE / f"llamafactory-{VERSION}"
    if not folder.is_dir():
        PLACE.mkdir(parents=True, exist_ok=True)
        package = f"llamafactory=={VERSION}"
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "llamafactory"]
        subprocess.run([*command, package, "-d", str(PLACE)], check=True)
        with tarfile.open(PLACE / f"llamafactory-{VERSION}.tar.gz") as archive:
            archive.extractall(PLACE, filter="data")
    return folder


def configurations(root: Path, endings: tuple[str, ...] = (".yaml",)) -> list[Path]:
    """Every file of the examples, v1 ones too, seen from the folder above."""
    return sorted(path.relative_to(root) for path in (root / "examples").rglob("*") if path.suffix in endings)
