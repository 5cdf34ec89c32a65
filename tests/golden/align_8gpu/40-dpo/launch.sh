#!/usr/bin/env bash
# 40-dpo: dpo lora from sft (align_8gpu.ft:45)
# 64 global = 2 micro x 4 accumulate x 8 data-parallel
# 8 processes = 8 data-parallel
# Works in the run folder. FT_PYTHON: the engine's Python.
set -euo pipefail
trap 'exit 143' TERM # asked to stop: what runs is waited for, and may still save
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export FT_PYTHON="${FT_PYTHON:-python3}"
case "$FT_PYTHON" in */*) PATH="$(dirname "$FT_PYTHON"):$PATH" ;; esac

# keeps this stage's own checkpoints, to resume from; sets aside those of other runs
"$FT_PYTHON" runtime/llamafactory.py fresh 40-dpo/stage.json

"$FT_PYTHON" -m torch.distributed.run --nnodes 1 --nproc_per_node 8 --standalone runtime/llamafactory.py train 40-dpo/stage.json
