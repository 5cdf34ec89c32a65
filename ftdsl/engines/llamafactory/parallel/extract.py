"""`python -m ftdsl.engines.llamafactory.parallel.extract ENGINE_PYTHON ROLL_CHECKOUT`: key lists of what we configure.

DeepSpeed and accelerate are asked under the engine's Python (probe.py). The mcore adapter is read with `ast` from a
checkout of github.com/alibaba/ROLL: the package of that name on PyPI is somebody else's.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from ftdsl.engines.llamafactory.extract import DATA, fields_of, text_of

PROBE = Path(__file__).with_name("probe.py")
MEGATRON = ("DistributingParallelArguments", "MegatronArguments")


def installed(python: Path) -> list[dict[str, Any]]:
    """Facts of the DeepSpeed and the accelerate beside that Python. Raises: subprocess.CalledProcessError."""
    done = subprocess.run([str(python), str(PROBE)], capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("FACTS "))
    found: list[dict[str, Any]] = json.loads(line.removeprefix("FACTS "))
    return found


def mcore_adapter(checkout: Path) -> dict[str, Any]:
    """Arguments of the adapter in a checkout of ROLL. Raises: OSError when it is not there."""
    source = checkout / "mcore_adapter" / "src" / "mcore_adapter" / "training_args.py"
    parameters: dict[str, Any] = {}
    for name in MEGATRON:
        parameters |= {field.pop("name"): field for field in fields_of(source, name)}
    project = (checkout / "mcore_adapter" / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"', project, re.MULTILINE)
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    about = {"package": "mcore-adapter", "version": version[1] if version else "", "source": "github.com/alibaba/ROLL"}
    return {**about, "commit": commit, "parameters": dict(sorted(parameters.items()))}


def main(argv: list[str]) -> int:
    """Write the facts beside the engine's."""
    for facts in [*installed(Path(argv[0])), mcore_adapter(Path(argv[1]))]:
        target = DATA / f"{facts['package']}-{facts['version']}.json"
        target.write_text(text_of(facts), encoding="utf-8")
        print(f"wrote {target.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
