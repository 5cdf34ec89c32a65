#!/usr/bin/env bash
# 30-sft: sft lora of Qwen/Qwen3-8B (align_8gpu.ft:34)
# 64 global = 4 micro x 2 accumulate x 8 data-parallel
# 8 processes = 8 data-parallel
# Works in the run folder. FT_PYTHON: the engine's Python.
set -euo pipefail
trap 'exit 143' TERM # asked to stop: what runs is waited for, and may still save
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export FT_PYTHON="${FT_PYTHON:-python3}"
case "$FT_PYTHON" in */*) PATH="$(dirname "$FT_PYTHON"):$PATH" ;; esac

# keeps this stage's own checkpoints, to resume from; sets aside those of other runs
"$FT_PYTHON" runtime/llamafactory.py fresh 30-sft/stage.json

"$FT_PYTHON" -m torch.distributed.run --nnodes 1 --nproc_per_node 8 --standalone runtime/llamafactory.py train 30-sft/stage.json
