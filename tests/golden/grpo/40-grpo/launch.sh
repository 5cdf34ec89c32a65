#!/usr/bin/env bash
# 40-grpo: grpo full from pupil (grpo.ft:33)
# 128 global = 128 micro x 1 accumulate x 1 data-parallel
# Works in the run folder. FT_PYTHON: the engine's Python.
set -euo pipefail
trap 'exit 143' TERM # asked to stop: what runs is waited for, and may still save
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export FT_PYTHON="${FT_PYTHON:-python3}"
case "$FT_PYTHON" in */*) PATH="$(dirname "$FT_PYTHON"):$PATH" ;; esac
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

# keeps this stage's own checkpoints, to resume from; sets aside those of other runs
"$FT_PYTHON" runtime/trl.py fresh 40-grpo/stage.json

"$FT_PYTHON" runtime/trl.py train 40-grpo/stage.json
