#!/usr/bin/env bash
# 040-sft.rank=8+lr=3e-4: sft lora of Qwen/Qwen3-0.6B (sweep.ft:20)
# 16 global = 4 micro x 4 accumulate x 1 data-parallel
# Works in the run folder. FT_PYTHON: the engine's Python.
set -euo pipefail
trap 'exit 143' TERM # asked to stop: what runs is waited for, and may still save
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export FT_PYTHON="${FT_PYTHON:-python3}"
case "$FT_PYTHON" in */*) PATH="$(dirname "$FT_PYTHON"):$PATH" ;; esac
export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES:-0}"

# keeps this stage's own checkpoints, to resume from; sets aside those of other runs
"$FT_PYTHON" runtime/llamafactory.py fresh 040-sft.rank=8+lr=3e-4/stage.json

"$FT_PYTHON" runtime/llamafactory.py train 040-sft.rank=8+lr=3e-4/stage.json
