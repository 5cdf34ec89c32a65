#!/usr/bin/env bash
# 10-sft: sft lora of /data/quickllm/qwen3_models (handbook_opening.ft:8)
# 16 global = 2 micro x 8 accumulate x 1 data-parallel
# Works in the run folder. FT_PYTHON: the engine's Python.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export FT_PYTHON="${FT_PYTHON:-python3}"
case "$FT_PYTHON" in */*) PATH="$(dirname "$FT_PYTHON"):$PATH" ;; esac
export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES:-0}"

"$FT_PYTHON" runtime/engine.py train 10-sft/train.yaml --stage 10-sft --world 1 --kind train --result adapter \
  --nan stop
