"""Every configuration we write is taken by LLaMA-Factory's own parser, on this CPU."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import check
from ftdsl.run.environments import Environment
from ftdsl.session import Session
from ftdsl.targets.artifacts import document_text
from tests.conftest import EXAMPLES
from tests.engines.test_lower import CASES

pytestmark = pytest.mark.real

PARSE = """
import json, os, sys
sys.path.insert(0, os.environ["STUBS"])
import yaml
from llamafactory.hparams import get_infer_args, get_train_args
verdicts = {}
for path in sys.argv[1:]:
    data = yaml.safe_load(open(path, encoding="utf-8"))
    try:
        (get_infer_args if "export_dir" in data else get_train_args)(data)
        verdicts[path] = ""
    except BaseException as error:
        verdicts[path] = f"{type(error).__name__}: {error}"
if os.environ.get("RANK", "0") == "0":
    print("\\nVERDICTS " + json.dumps(verdicts))
"""


def on_cpu(data: dict[str, Any]) -> dict[str, Any]:
    """The same parameters where there is no card: `use_cpu`, and what only a card can do taken back."""
    if "export_dir" in data:
        return data
    found = {**data, "use_cpu": True}
    for name in ("pure_bf16", "use_unsloth", "enable_liger_kernel", "tf32", "fp8", "fp8_backend"):
        found.pop(name, None)
    if str(found.get("optim", "")).startswith("paged"):
        found["optim"] = "adamw_torch"
    for name in ("report_to", "use_galore", "use_apollo", "use_badam", "use_adam_mini", "quantization_bit"):
        found.pop(name, None)  # the parser looks for packages that are not in this environment
    return found


def verdicts(files: list[Path], forking: Environment, cwd: Path, processes: int = 1) -> dict[str, str]:
    program = cwd / "parse.py"
    program.write_text(PARSE, encoding="utf-8")
    command = [str(forking.python)]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    path = f"{forking.python.parent}:{os.environ['PATH']}"
    env = {**os.environ, "STUBS": str(cwd), "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(program), *map(str, files)], cwd=cwd, capture_output=True, text=True, env=env, check=False
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("VERDICTS ")), None)
    assert line is not None, done.stdout[-2000:] + done.stderr[-2000:]
    found: dict[str, str] = json.loads(line.removeprefix("VERDICTS "))
    return found


def test_every_yaml_of_every_example(forking: Environment, tmp_path: Path) -> None:
    """Those of LLaMA-Factory: in one process, and with two loopback ranks where DeepSpeed is asked for."""
    single: list[Path] = []
    several: list[Path] = []
    for recipe in EXAMPLES:
        checked = check(recipe, Options(), Session())
        for job in checked.jobs:
            if job.environment != "llamafactory":
                continue
            for document in job.documents:
                path = tmp_path / recipe.stem / document.path
                path.parent.mkdir(parents=True, exist_ok=True)
                if document.kind == "json":
                    path.write_text(document_text(document), encoding="utf-8")
                    continue
                data = on_cpu(yaml.safe_load(document_text(document)))
                if "deepspeed" in data:
                    data["deepspeed"] = str(tmp_path / recipe.stem / data["deepspeed"])
                path.write_text(yaml.safe_dump(data), encoding="utf-8")
                (several if "deepspeed" in data else single).append(path)
    assert len(single) >= 15
    assert len(several) >= 3
    found = verdicts(single, forking, tmp_path) | verdicts(several, forking, tmp_path, processes=2)
    assert {path: text for path, text in found.items() if text} == {}


def test_every_word_we_lower(forking: Environment, tmp_path: Path) -> None:
    """The parameters of test_lower.py, one configuration each, taken as they are."""
    files = []
    for at, (_, wanted) in enumerate(CASES):
        base = {
            "stage": "sft", "do_train": True, "model_name_or_path": "a/b", "dataset": "x", "template": "qwen3",
            "output_dir": "out", "finetuning_type": "lora", "report_to": "none",
        }  # fmt: skip
        data = on_cpu(base | {key: value for key, value in wanted.items() if value is not None})
        if "eval_strategy" in data or "early_stopping_steps" in data:
            data.setdefault("val_size", 0.1)
        path = tmp_path / f"{at:02}.yaml"
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        files.append(path)
    found = verdicts(files, forking, tmp_path)
    assert {CASES[int(Path(path).stem)][0]: text for path, text in found.items() if text} == {}
