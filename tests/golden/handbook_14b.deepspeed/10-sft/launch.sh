#!/usr/bin/env bash
# 10-sft: sft lora of Qwen/Qwen3-14B (handbook_14b.ft:10)
# 128 global = 4 micro x 8 accumulate x 4 data-parallel
# 4 processes = 4 data-parallel
# Works in the run folder. FT_PYTHON: the engine's Python.
set -euo pipefail
trap 'exit 143' TERM # asked to stop: what runs is waited for, and may still save
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export FT_PYTHON="${FT_PYTHON:-python3}"
case "$FT_PYTHON" in */*) PATH="$(dirname "$FT_PYTHON"):$PATH" ;; esac
export MASTER_PORT="${MASTER_PORT:-$("$FT_PYTHON" -c 'import socket; s = socket.create_server(("", 0)); print(s.getsockname()[1])')}"

# keeps this stage's own checkpoints, to resume from; sets aside those of other runs
"$FT_PYTHON" runtime/llamafactory.py fresh 10-sft/stage.json

"$FT_PYTHON" -m deepspeed.launcher.runner --no_local_rank --hostfile /dev/null --num_gpus 4 --master_port "$MASTER_PORT" runtime/llamafactory.py train 10-sft/stage.json
