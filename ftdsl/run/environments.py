"""Finds the Python environment that has an engine, by running its Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement

from ftdsl import catalog
from ftdsl.engines import registry
from ftdsl.engines.tools.tool import TOOLS, tool_distributions
from ftdsl.environments import NAMED, candidates, is_from_repository, runnable
from ftdsl.printable import typed
from ftdsl.run.trust import why_not

OPTIONAL = (
    "jieba", "nltk", "rouge-chinese", "liger-kernel", "unsloth", "matplotlib", "tensorboard", "wandb", "mlflow", "swanlab",
    "torchaudio", "pyarrow", "orjson", "numpy", "xxhash", "rensa", "py3langid", "mixture-of-depth", "optimum", "gptqmodel",
    "eetq", "galore-torch", "apollo-torch", "badam", "adam-mini",
)  # fmt: skip
"""Distributions that some recipes need besides an engine's own."""

_PROBE = """
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: pass
print(json.dumps({"python": sys.version.split()[0], "packages": found}))
"""


@dataclass(frozen=True)
class Environment:
    """A Python, how it was found, and versions of the packages in it (by distribution name)."""

    python: Path
    source: str
    version: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)

    def has(self, engine: str) -> bool:
        return catalog.serves(engine, self.packages)

    def lacks(self, requirement: str) -> bool:
        """Whether a package is missing or of another version: `peft`, `trl<=0.9.6`, `deepspeed>=0.19.8`."""
        wanted = Requirement(requirement)
        here = self.packages.get(wanted.name)
        return here is None or not wanted.specifier.contains(here, prereleases=True)

    def describe(self, engine: str) -> str:
        """`LLaMA-Factory 0.9.5 in .engines/llamafactory (torch 2.13.0)`."""
        torch = self.packages.get("torch")
        return f"{engine} {self.packages.get(engine, '?')} in {self.python}" + (f" (torch {torch})" if torch else "")


class NoEngineError(Exception):
    """No Python with the engine; the message contains the command that installs it."""


class NotTrustedError(NoEngineError):
    """A Python that may have come with the repository, and that the user has not trusted."""


def probe(python: Path, source: str) -> Environment | None:
    """What a Python has, read from package metadata (no imports, about 0.1 s). None when it does not run."""
    try:
        names = dict.fromkeys((*registry.distributions(), *tool_distributions(), *OPTIONAL))
        command = [str(python), "-I", "-c", _PROBE, *names]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=60, check=True)
        versions = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Environment(python, source, versions["python"], versions["packages"])


def find(
    engine: str, env: Mapping[str, str], *, flag: str = "", recipe: str = "", folder: Path | None = None
) -> Environment:
    """The first environment that has the engine. `folder`: the recipe's. Raises: NoEngineError, NotTrustedError."""
    probed = []
    variable = TOOLS[engine].variable if engine in TOOLS else ""
    for python, source in candidates(engine, env, flag=flag, recipe=recipe, variable=variable):
        if why := not_started(python, source, env, folder):
            raise NotTrustedError(f"{python} is not started: {why}; type: {trusting(python)}")
        environment = probe(runnable(python), source)
        if environment and environment.has(engine):
            return environment
        probed.append((python, source, environment))
    python, source, environment = probed[0]
    if source in (*NAMED, variable):
        raise NoEngineError(f"{python} (named by {source}) {_not_usable(runnable(python), engine, environment)}")
    if variable:
        needed = f"`{engine}` is not installed here, and runs {TOOLS[engine].use}"
        raise NoEngineError(f"{needed}; type: ftc engine install {engine} [--cpu]")
    raise NoEngineError(f"there is no engine `{engine}` here; type: ftc engine install {engine} [--cpu]")


def _not_usable(python: Path, engine: str, environment: Environment | None) -> str:
    """Why a Python that was named cannot be used, and what to type: packages are put into environments, not into a system's
    Python.
    """
    if not python.exists() and os.sep in str(python):
        return "is not there"
    if environment is None:
        return "does not run"
    home = python.parent.parent
    if (home / "pyvenv.cfg").is_file() or (home / "conda-meta").is_dir():
        return f"has no {engine}; type: ftc engine install {engine} --python {python}"
    return f"has no {engine}; type: ftc engine install {engine} [--cpu], which makes an environment for it"


def not_started(python: Path, source: str, env: Mapping[str, str], folder: Path | None = None) -> str:
    """Why a Python is not started without the user's trust; "" if it is."""
    if not is_from_repository(source):
        return ""
    return why_not(runnable(python), (Path(), *((folder,) if folder else ())), env)


def trusting(python: Path) -> str:
    """The command by which a user trusts a Python."""
    home = python.parent.parent if python.parent.name == "bin" else python
    return f"ftc engine trust {typed(str(home))}"


def this_python() -> Environment:
    """For recipes without a stage that needs an engine."""
    source = "the Python that runs ftc"
    return probe(Path(sys.executable), source) or Environment(Path(sys.executable), source)
