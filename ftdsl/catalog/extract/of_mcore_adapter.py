"""`python -m ftdsl.catalog.extract.of_mcore_adapter CHECKOUT`: the mcore adapter's arguments, from a clone of ROLL.

LLaMA-Factory's Megatron path uses it. It is published only in github.com/alibaba/ROLL: the package of that name on the index
is a different one, and is never downloaded.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from ftdsl.catalog.extract import timelines
from ftdsl.catalog.extract.classes import Classes, Fact
from ftdsl.catalog.extract.packages import Package

NAME = "mcore-adapter"
ARGUMENTS = "mcore_adapter/training_args.py"
TARGET = Path(__file__).parent.parent / "data" / f"{NAME}.json"


class Checkout(Package):
    """The adapter's folder in a clone of ROLL. Raises: OSError if it is missing."""

    def __init__(self, folder: Path) -> None:
        self._source = folder / "mcore_adapter" / "src"
        project = (folder / "mcore_adapter" / "pyproject.toml").read_text(encoding="utf-8")
        version = re.search(r'^version = "(.+)"', project, re.MULTILINE)
        super().__init__(NAME, version[1] if version else "")

    def names(self) -> list[str]:
        return sorted(path.relative_to(self._source).as_posix() for path in self._source.rglob("*.py"))

    def text(self, path: str) -> str:
        return (self._source / path).read_text(encoding="utf-8")

    def metadata(self) -> str:
        return ""


def tables(package: Package) -> dict[str, dict[str, Fact]]:
    """`parameters`: what `MegatronArguments` adds to Hugging Face's TrainingArguments."""
    return {"parameters": dict(Classes(package, [ARGUMENTS]).fields("MegatronArguments"))}


def main(argv: list[str]) -> int:
    """Write the facts, with the commit they were read at."""
    folder = Path(argv[0])
    package = Checkout(folder)
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    head = {"package": NAME, "version": package.version, "source": f"github.com/alibaba/ROLL@{commit}"}
    parameters = dict(sorted(tables(package)["parameters"].items()))
    TARGET.write_text(timelines.text_of(head, parameters), encoding="utf-8")
    print(f"wrote {len(parameters)} parameters")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
