"""Builds or completes the environment of an engine or a tool, with pip: the pins that were tried, and nothing it needs not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftdsl.engines.tools.tool import Tool
from ftdsl.environments import python_in
from ftdsl.storage import write_file

TORCH = "torch==2.13.0"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own index of builds without CUDA (pytorch.org, get started)."""

LLAMAFACTORY = "llamafactory==0.9.5"
BESIDE = (
    "transformers==5.6.0", "datasets==4.0.0", "accelerate==1.11.0", "peft==0.18.1", "trl==0.24.0", "omegaconf",
    "sentencepiece", "protobuf", "matplotlib", "jieba", "nltk", "rouge_chinese", "bitsandbytes",
    "orjson>=3.10", "xxhash>=3.5", "rensa>=0.5", "py3langid>=0.4",  # the data stage (docs/adr)
)  # fmt: skip
ON_GPU = ("torchvision", "torchaudio")
DEEPSPEED = ("deepspeed>=0.19.8", "ninja")
"""0.18.4 corrupts weights in silence under ZeRO-3 (docs/engines.md)."""

STUB = '''"""Stands in for torchaudio, which has no build beside this torch. Put here by `ftc engine install`.

LLaMA-Factory imports it even for text; anything that really needs sound fails with this message.
"""


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    raise RuntimeError("torchaudio is not installed beside this torch: training on sound is not possible here")
'''


class InstallError(Exception):
    """pip failed; the message says on what."""


@dataclass(frozen=True)
class Wish:
    """What to install: into `folder`, or into the environment of `python` when that is given. tool: instead of an engine."""

    folder: Path
    python: Path | None = None
    cpu: bool = False
    deepspeed: bool = False
    tool: Tool | None = None


def install(wish: Wish, say: Callable[[str], None]) -> Path:
    """The Python of the finished environment. Raises: InstallError, OSError."""
    python = wish.python or python_in(wish.folder)
    if wish.python is None and not python.exists():
        say(f"making {wish.folder}")
        _run([sys.executable, "-I", "-m", "venv", str(wish.folder)], say)
    # -I: no module of the folder it is called in stands in for one of Python's or pip's.
    pip = [
        str(python),
        "-I",
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "--progress-bar",
        "off",
    ]
    _torch(pip, wish, say)
    if wish.tool:
        say(f"installing {wish.tool.title}")
        _run([*pip, *((TORCH,) if wish.cpu else ()), *wish.tool.requirements], say)
        return python
    say("installing what LLaMA-Factory stands on")
    _run([*pip, TORCH, *BESIDE, *(() if wish.cpu else ON_GPU)], say)
    say("installing LLaMA-Factory")
    _run([*pip, "--no-deps", LLAMAFACTORY], say)
    if wish.deepspeed:
        say("installing DeepSpeed")
        _run([*pip, "setuptools", "wheel"], say)
        _run([*pip, "--no-build-isolation", *DEEPSPEED], say, {"DS_BUILD_OPS": "0"})
        if shutil.which("g++") is None:
            say("note: DeepSpeed builds small parts when it starts and needs g++, which is not on PATH")
    _stub(python, say)
    return python


def _torch(pip: list[str], wish: Wish, say: Callable[[str], None]) -> None:
    """On a machine without cards the build without CUDA: a tenth of the size."""
    if not wish.cpu:
        return
    say("installing torch without CUDA")
    if not _tried([*pip, "--retries", "0", "--timeout", "20", "--index-url", CPU_WHEELS, TORCH], say):
        say("PyTorch's own index does not answer; taking what pip finds")
        _run([*pip, TORCH], say)


def _stub(python: Path, say: Callable[[str], None]) -> None:
    """Where the real torchaudio cannot be imported, a package that says so when it is used."""
    if _tried([str(python), "-I", "-c", "import torchaudio"], lambda _: None):
        return
    where = subprocess.run(
        [str(python), "-I", "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        capture_output=True,
        text=True,
        check=True,
    )
    place = Path(where.stdout.strip()) / "torchaudio"
    write_file(place / "__init__.py", STUB.encode(), root=place.parent)
    say("torchaudio has no build beside this torch: put a stand-in there (text training does not use it)")


def _tried(command: Sequence[str], say: Callable[[str], None]) -> bool:
    try:
        _run(command, say)
    except InstallError:
        return False
    return True


def _run(command: Sequence[str], say: Callable[[str], None], env: dict[str, str] | None = None) -> None:
    """Run, passing on what it prints; its last lines are the message when it fails."""
    lines: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **(env or {})}
    ) as process:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            if line.startswith(("Collecting ", "Successfully ", "Building ")):
                say(f"  {line.strip()[:100]}")
    if process.returncode:
        raise InstallError("\n".join(lines[-12:]) or f"{command[0]} ended with status {process.returncode}")
