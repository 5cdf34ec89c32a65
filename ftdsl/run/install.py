"""Builds or completes an engine's environment with pip: tested pins, and only what the engine needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """pip failed; the message names the package."""


@dataclass(frozen=True)
class Wish:
    """What to install: into `folder`, or into the environment of `python` when that is given. requirements: the engine's own, in
    place of LLaMA-Factory's; title: its name in messages."""

    folder: Path
    python: Path | None = None
    cpu: bool = False
    deepspeed: bool = False
    requirements: tuple[str, ...] = ()
    title: str = ""


def install(wish: Wish, say: Callable[[str], None]) -> Path:
    """The Python of the finished environment. Raises: InstallError, OSError."""
    python = wish.python or python_in(wish.folder)
    if wish.python is None and not python.exists():
        say(f"making {wish.folder}")
        _run([sys.executable, "-I", "-m", "venv", str(wish.folder)], say)
    # -I: no module of the working directory replaces one of Python's or pip's.
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
    if wish.requirements:
        say(f"installing {wish.title}")
        _run([*pip, TORCH, *wish.requirements], say)
    else:
        say("installing the dependencies of LLaMA-Factory")
        _run([*pip, TORCH, *BESIDE, *(() if wish.cpu else ON_GPU)], say)
        say("installing LLaMA-Factory")
        _run([*pip, "--no-deps", LLAMAFACTORY], say)
    if wish.deepspeed:
        say("installing DeepSpeed")
        _run([*pip, "setuptools", "wheel"], say)
        _run([*pip, "--no-build-isolation", *DEEPSPEED], say, {"DS_BUILD_OPS": "0"})
        if shutil.which("g++") is None:
            say("note: DeepSpeed builds small parts when it starts and needs g++, which is not on PATH")
    if not wish.requirements:
        _stub(python, say)
    return python


def _torch(pip: list[str], wish: Wish, say: Callable[[str], None]) -> None:
    """On a machine without GPUs the build without CUDA: a tenth of the size."""
    if not wish.cpu:
        return
    say("installing torch without CUDA")
    if not _tried([*pip, "--retries", "0", "--timeout", "20", "--index-url", CPU_WHEELS, TORCH], say):
        say("PyTorch's own index does not answer; taking what pip finds")
        _run([*pip, TORCH], say)


def _stub(python: Path, say: Callable[[str], None]) -> None:
    """If the real torchaudio cannot be imported, a package that raises when it is used."""
    if _tried([str(python), "-I", "-c", "import torchaudio"], lambda _: None):
        return
    where = subprocess.run(
        [str(python), "-I", "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=True,
    )
    package = Path(where.stdout.strip()) / "torchaudio"
    write_file(package / "__init__.py", STUB.encode(), root=package.parent)
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
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **(env or {})},
    ) as process:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            if line.startswith(("Collecting ", "Successfully ", "Building ")):
                say(f"  {line.strip()[:100]}")
    if process.returncode:
        raise InstallError("\n".join(lines[-12:]) or f"{command[0]} ended with status {process.returncode}")
