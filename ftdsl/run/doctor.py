"""Examines the environment of an engine or a tool the way a run uses it: imports, GPUs, compilers."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

from ftdsl.engines.engine import Engine
from ftdsl.engines.tools.tool import Tool
from ftdsl.run.environments import Environment

_LOOK = """
import json, sys
found = {}
try:
    import torch
    found["torch"] = torch.__version__
    found["cards"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
except Exception as error:
    found["torch_error"] = f"{type(error).__name__}: {error}"
try:
    import torchaudio
    found["audio"] = "a stand-in" if "Stands in" in (torchaudio.__doc__ or "") else "real"
except Exception as error:
    found["audio_error"] = f"{type(error).__name__}: {error}"
try:
    __import__(sys.argv[1])
    found["engine"] = True
except Exception as error:
    found["engine_error"] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(found))
"""


@dataclass(frozen=True)
class Check:
    """One check: `needed` for any training, else only for some recipes."""

    name: str
    fine: bool
    detail: str
    help: str = ""
    needed: bool = False


def examine(environment: Environment, engine: Engine) -> list[Check]:
    """What works in the environment and what does not. Imports torch in its own process, so takes seconds."""
    probed = _look(environment, engine.probe)
    if isinstance(probed, Check):
        return [probed]
    here = f"ftc engine install {engine.name} --python {environment.python}"
    packages = environment.packages
    rouge = all(name in packages for name in ("jieba", "nltk", "rouge-chinese"))
    return [
        *_common(environment, probed, engine.title, engine.package, here),
        Check("torchaudio", probed.get("audio") == "real", probed.get("audio") or probed.get("audio_error", "")),
        Check("rouge and bleu", rouge, "jieba, nltk, rouge-chinese", here),
        Check("DeepSpeed", "deepspeed" in packages, packages.get("deepspeed", "for ZeRO"), f"{here} --deepspeed"),
        Check("g++", shutil.which("g++") is not None, shutil.which("g++") or "DeepSpeed builds small parts with it"),
        Check(
            "bitsandbytes", "bitsandbytes" in packages, packages.get("bitsandbytes", "for QLoRA and 8-bit optimizers")
        ),
    ]


def examine_tool(environment: Environment, tool: Tool) -> list[Check]:
    """The same of a tool."""
    probed = _look(environment, tool.probe)
    if isinstance(probed, Check):
        return [probed]
    here = f"ftc engine install {tool.name} --python {environment.python}"
    return _common(environment, probed, tool.title, tool.name, here)


def _look(environment: Environment, probe: str) -> dict[str, Any] | Check:
    try:
        command = [str(environment.python), "-I", "-c", _LOOK, probe or "torch"]
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=300, check=False
        )
        probed: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
        return Check("python", False, f"does not answer ({type(error).__name__})", needed=True)
    return probed


def _common(environment: Environment, probed: dict[str, Any], title: str, package: str, help: str) -> list[Check]:
    cards = probed.get("cards") or []
    version = probed.get("engine_error") or environment.packages.get(package, "")
    return [
        Check("torch", "torch" in probed, probed.get("torch") or probed.get("torch_error", ""), help, True),
        Check(title, "engine" in probed, version, help, True),
        Check("cards", bool(cards), ", ".join(cards) or "none: runs on CPU"),
    ]
