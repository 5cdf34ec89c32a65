"""Engines are environments of their own: which Python has one, and what is in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

LOCAL = Path(".engines")
"""The project's own folder for engines, seen from where `ftc` is called."""

PROBED = (
    "llamafactory", "torch", "transformers", "datasets", "accelerate", "peft", "trl", "deepspeed", "bitsandbytes", "jieba",
    "nltk", "rouge-chinese", "liger-kernel", "unsloth", "matplotlib", "tensorboard", "wandb", "mlflow", "swanlab",
    "torchaudio", "pyarrow", "mixture-of-depth", "galore-torch", "apollo-torch", "badam", "adam-mini",
)  # fmt: skip

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
        return engine in self.packages

    def said(self, engine: str) -> str:
        """`LLaMA-Factory 0.9.5 in .engines/llamafactory (torch 2.13.0)`."""
        torch = self.packages.get("torch")
        return f"{engine} {self.packages.get(engine, '?')} in {self.python}" + (f" (torch {torch})" if torch else "")


class NoEngineError(Exception):
    """No Python with the engine; the message is a sentence with the command to type."""


def probe(python: Path, source: str) -> Environment | None:
    """What a Python has, read from package metadata (no imports, about 0.1 s). None when it does not run."""
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", _PROBE, *PROBED], capture_output=True, text=True, timeout=60, check=True
        )
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Environment(python, source, found["python"], found["packages"])


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
    named = ((flag, "--engine-python"), (env.get("FTC_ENGINE_PYTHON", ""), "FTC_ENGINE_PYTHON"), (recipe, "the recipe"))
    for text, source in named:
        if text:
            yield Path(text).expanduser(), source
            return
    for folder in (folder_of(engine), user_folder(engine, env)):
        if python_in(folder).exists():
            yield python_in(folder), str(folder)
    yield Path(sys.executable), "the Python that runs ftc"


def find(engine: str, env: Mapping[str, str], *, flag: str = "", recipe: str = "") -> Environment:
    """The first environment that has the engine. Raises: NoEngineError."""
    asked = []
    for python, source in candidates(engine, env, flag=flag, recipe=recipe):
        found = probe(_runnable(python), source)
        if found and found.has(engine):
            return found
        asked.append((python, source, found))
    python, source, found = asked[0]
    if source in ("--engine-python", "FTC_ENGINE_PYTHON", "the recipe"):
        why = f"has no {engine}" if found else "does not run"
        raise NoEngineError(f"{python} (named by {source}) {why}; type: ftc engine install {engine} --python {python}")
    raise NoEngineError(f"there is no engine `{engine}` here; type: ftc engine install {engine} [--cpu]")


def this_python() -> Environment:
    """For recipes without a stage that needs an engine."""
    return Environment(Path(sys.executable), "the Python that runs ftc")


def _runnable(python: Path) -> Path:
    """A folder means the environment in it. Links are kept: they are what makes a virtual environment one."""
    inside = python_in(python) if python.is_dir() else python
    return Path.cwd() / inside if os.sep in str(inside) else inside
