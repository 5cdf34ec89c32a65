#!/usr/bin/env bash
# 10-sft: sft full of Qwen/Qwen3-14B (handbook_14b.ft:10)
# 128 global = 4 micro x 16 accumulate x 2 data-parallel
# 2 nodes x 8 processes = 16 = 2 data-parallel x 4 tensor x 2 pipeline
# Started on each of 2 nodes:
#   NODE_RANK=0 MASTER_ADDR=ADDRESS_OF_THE_FIRST bash run.sh RUN_FOLDER   # the first node
#   NODE_RANK=1 MASTER_ADDR=ADDRESS_OF_THE_FIRST bash run.sh RUN_FOLDER   # the second
# Works in the run folder. FT_PYTHON: the engine's Python.
set -euo pipefail
trap 'exit 143' TERM # asked to stop: what runs is waited for, and may still save
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export FT_PYTHON="${FT_PYTHON:-python3}"
case "$FT_PYTHON" in */*) PATH="$(dirname "$FT_PYTHON"):$PATH" ;; esac
export NODE_RANK="${NODE_RANK:?0 on the first node, 1 on the next, and so on}"
export MASTER_ADDR="${MASTER_ADDR:?address of the first node}"
export MASTER_PORT="${MASTER_PORT:-29500}"
export USE_MCA=1
export CUDA_DEVICE_MAX_CONNECTIONS=1

# keeps this stage's own checkpoints, to resume from; sets aside those of other runs
"$FT_PYTHON" runtime/llamafactory.py fresh 10-sft/stage.json

"$FT_PYTHON" -m torch.distributed.run --nnodes 2 --nproc_per_node 8 --node_rank "$NODE_RANK" --master_addr "$MASTER_ADDR" \
  --master_port "$MASTER_PORT" runtime/llamafactory.py train 10-sft/stage.json
