"""A recipe of 10,000 lines through `ftc check`, beside Lark's own parser on the same text, in one run."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

LINES = 10_000
STAGE = """\
## stage {n}
sft s{n} {{
  model    = m
  data     = hf("org/rows")
  duration = {epochs} epochs
  template = qwen3_nothink
  max_len  = 2Ki
  lora     {{ rank = {rank}, alpha = 2 * rank, targets = [q_proj, v_proj] }}
  optim    {{ lr = 2e-4, schedule = cosine, warmup = 3% }}
  batch    {{ global = 16, micro = 2 }}
  save     {{ every = 100 steps, keep = 2 }}
}}

"""


def recipe() -> str:
    """Stages until there are enough lines."""
    text = 'name = "large"\nhardware { gpu = none, count = 1 }\nlet m = hf("Qwen/Qwen3-8B")\n'
    number = 0
    while text.count("\n") < LINES:
        text += STAGE.format(n=number, epochs=number % 9 + 1, rank=8 * (number % 5 + 1))
        number += 1
    return text


def main() -> None:
    """Seconds of both, and their ratio."""
    from ftdsl.language import lexing

    text = recipe()
    start = time.perf_counter()
    lexing.build().parse("\n".join(line for line in text.splitlines() if not line.startswith("#")))
    lark = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "large.ft"
        path.write_text(text, encoding="utf-8")
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ftdsl.cli.main", "check", "-q", str(path)], check=True)
        ours = time.perf_counter() - start
    lines = text.count("\n")
    print(f"{lines} lines: Lark alone {lark:.2f} s; ftc check, all of it {ours:.2f} s; {ours / lark:.1f} x")


if __name__ == "__main__":
    main()
