"""`python -m benchmarks.methods_table [--engine-python P] [--run FOLDER]`: methods of fine-tuning on one toy task, measured.

One recipe: a small model reads an atlas, then each method teaches it to answer questions about capitals, on this machine's CPU.
The table in docs/adapters.md is written anew, and so are its pictures: the gates and loads of a mixture of experts, the ranks of
AdaLoRA. FOLDER: a run that is there already. About 3 minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docs.draw_series import main as draw

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "adapters.md"
BEGIN, END = "<!-- measured: benchmarks/methods_table.py -->", "<!-- end -->"
STEPS = 200

METHODS = {
    "full": ("full", "full {}, optim { lr = 1e-3 }"),
    "lora": ("LoRA", "lora { rank = 8 }, optim { lr = 5e-3 }"),
    "qlora": ("QLoRA, nf4", "lora { rank = 8 }, quantize { bits = 4 }, optim { lr = 5e-3 }"),
    "adapter": ("bottleneck adapter", "adapter { size = 16 }, optim { lr = 5e-3 }"),
    "prefix": ("prefix", "prefix { tokens = 16 }, optim { lr = 5e-2 }"),
    "prompt": ("soft prompt", "prompt { tokens = 16 }, optim { lr = 5e-2 }"),
    "ia3": ("IA3", "lora { variant = ia3 }, optim { lr = 5e-2 }"),
    "adalora": ("AdaLoRA", "lora { rank_budget = 4, rank = 8 }, optim { lr = 5e-3 }"),
    "moe": ("MoE-LoRA", "lora { rank = 4, experts = 4, top_k = 2, balance = 0.05 }, optim { lr = 5e-3 }"),
}
"""Name of a stage -> what the table calls it, and its part of the recipe."""

RECIPE = """
engine = trl
hardware {{ gpu = none, count = 1 }}
template = qwen3_nothink
max_len = 64
precision = fp32
batch {{ global = 16, micro = 16 }}
save {{ every = never }}
track {{ every = 2 steps }}

data capitals {{ source = file("data/capitals.jsonl"), holdout {{ eval = 15%, seed = 7 }} }}

pretrain base {{
  model = scratch(architecture = qwen3, hidden = 128, layers = 2, heads = 4, vocab = 1k)
  data = file("data/atlas.jsonl"), packing = false, duration = 300 steps, full {{}}, optim {{ lr = 3e-3, warmup = 5% }}
}}
{stages}
"""
STAGE = """sft {name} from base {{
  data = capitals, duration = {steps} steps, {method}
  evaluate {{ data = capitals.eval, every = {steps} steps, batch = 16 }}
}}
"""


@dataclass(frozen=True)
class Measured:
    """One method. trained: its parameters; held_out, loss: at the end; seconds: a step; memory: bytes above the loaded model."""

    title: str
    trained: int
    held_out: float
    loss: float
    seconds: float
    memory: int
    disk: int


def parameters(folder: Path) -> int:
    """Numbers in the safetensors files of a folder, by their headers."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for width in tensor["shape"]:
                    size *= width
                total += size
    return total


def events(stage: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def measured(run: Path, name: str) -> Measured:
    """What a stage of the run logged."""
    stage = next(run.glob(f"*-{name}"))
    result = json.loads((stage / "result.json").read_text(encoding="utf-8"))["metrics"]
    seen = next(event for event in events(stage) if event["event"] == "measured")
    weights = list((stage / "result").glob("*.safetensors"))
    return Measured(METHODS[name][0], parameters(stage / "result"), result["eval_loss"], result["last_loss"],
                    seen["step_seconds"], seen["rss_bytes"] - seen["loaded_bytes"],
                    sum(path.stat().st_size for path in weights))  # fmt: skip


def table(run: Path) -> str:
    """Markdown."""
    rows = [measured(run, name) for name in METHODS]
    whole = rows[0].trained
    lines = ["| method | in the recipe | trained | of all | MB saved | MB to train | ms a step | loss | held out |",
             "|---|---|---:|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    for name, row in zip(METHODS, rows, strict=True):
        written = METHODS[name][1].rpartition(", optim")[0]
        lines.append(
            f"| {row.title} | `{written}` | {row.trained:,} | {100 * row.trained / whole:.1f}% | {row.disk / 1e6:.2f} | "
            f"{row.memory / 1e6:.0f} | {1000 * row.seconds:.0f} | {row.loss:.3f} | {row.held_out:.3f} |"
        )
    return "\n".join(lines)


def recipe(steps: int = STEPS) -> str:
    """The recipe of all methods."""
    stages = "".join(STAGE.format(name=name, method=method, steps=steps) for name, (_, method) in METHODS.items())
    return RECIPE.format(stages=stages)


def trained(python: str) -> Path:
    """The recipe carried out in a temporary folder; its run folder."""
    folder = Path(tempfile.mkdtemp(prefix="ftc-methods-"))
    shutil.copytree(ROOT / "examples" / "data", folder / "data")
    (folder / "methods.ft").write_text(recipe(), encoding="utf-8")
    named = ["--engine-python", python] if python else []
    subprocess.run([sys.executable, "-m", "ftdsl.cli.main", "run", "methods.ft", *named], cwd=folder, check=True)
    return folder / "runs" / "methods" / "last"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine-python", default="", metavar="P")
    parser.add_argument("--run", type=Path, metavar="FOLDER")
    asked = parser.parse_args(arguments)
    run = asked.run or trained(asked.engine_python)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(run)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    moe, ranks = (next(run.glob(f"*-{name}")) / "metrics.jsonl" for name in ("moe", "adalora"))
    shares = "expert_load/*=share of the tokens of each expert, and of the busiest one of any layer"
    draw(PAGE.with_name("moe.svg"), moe, ["loss", "gate_entropy=entropy of the gates, share of its maximum", shares])
    draw(PAGE.with_name("adalora.svg"), ranks, ["loss", "average_rank=average rank of the adapted matrices"])
    print(table(run))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
