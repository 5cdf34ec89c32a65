#!/usr/bin/env bash
# qwen3-0.6b-sweep: every stage in order, stopping at the first that fails.
# Which rate, which rank? Six runs of one stage, and three seeds of a full fine-tune beside them.
#
#   bash run.sh [RUN_FOLDER]      default: runs/qwen3-0.6b-sweep/by-hand
#
# FT_PYTHON: the Python of llamafactory (default: python3). Stages that are done are not run again:
# remove their folder, or name another run folder, to start anew.
set -euo pipefail
build="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
run="${1:-runs/qwen3-0.6b-sweep/by-hand}"
export FT_PYTHON="${FT_PYTHON:-python3}"
case "$FT_PYTHON" in */*) FT_PYTHON="$(cd "$(dirname "$FT_PYTHON")" && pwd)/$(basename "$FT_PYTHON")" ;; esac

mkdir -p "$run"
ln -sfn "$(cd "$build/inputs" && pwd -P)" "$run/inputs"
cp -R "$build/runtime" "$run/"
cp "$build/run.sh" "$build/manifest.json" "$run/"
cd "$run"

same() { # FOLDER: leaves when what is done was done by another build; comments and places in the recipe do not count
  local file
  for file in "$build/$1"/*; do
    if ! cmp -s <(plain "$file") <(plain "$1/${file##*/}"); then
      echo "== $1: was done by another build (${file##*/} differs): remove $run/$1, or name another run folder" >&2
      exit 1
    fi
  done
  [ ! -e "$1/.by-hand.json" ] || "$FT_PYTHON" -E runtime/by_hand.py same "$1" || {
    echo "== $1: remove $run/$1, or name another run folder" >&2
    exit 1
  }
}

record() { # begin|end FOLDER: so that ftc run can use what this run makes
  "$FT_PYTHON" -E runtime/by_hand.py "$1" "$2" || echo "== $2: no record of it: ftc run will make it again" >&2
}

plain() { # FILE
  sed -e '/^#/d' -e 's/"where": "[^"]*",*//' "$1" 2>/dev/null
}

stage() { # FOLDER TITLE
  if [ -e "$1/done" ]; then
    same "$1"
    echo "== $1: done before"
    return
  fi
  echo "== $1: $2"
  mkdir -p "$1"
  cp -R "$build/$1/." "$1/"
  FTC_STAGE_KEY="$(record begin "$1")" # its destination is marked with it: no checkpoint of another build is resumed
  export FTC_STAGE_KEY
  local status=0
  bash "$1/launch.sh" 2>&1 | tee "$1/log.txt" || status=$?
  if [ "$status" -ne 0 ]; then
    echo "== $1: failed with status $status; its log is $run/$1/log.txt" >&2
    exit "$status"
  fi
  record end "$1"
  touch "$1/done"
}

stage 010-support 'sharegpt rows'
stage 020-sft.rank=8+lr=1e-5 'sft lora of Qwen/Qwen3-0.6B'
stage 030-sft.rank=8+lr=1e-4 'sft lora of Qwen/Qwen3-0.6B'
stage 040-sft.rank=8+lr=3e-4 'sft lora of Qwen/Qwen3-0.6B'
stage 050-sft.rank=32+lr=1e-5 'sft lora of Qwen/Qwen3-0.6B'
stage 060-sft.rank=32+lr=1e-4 'sft lora of Qwen/Qwen3-0.6B'
stage 070-sft.rank=32+lr=3e-4 'sft lora of Qwen/Qwen3-0.6B'
stage 080-whole.seed=1 'sft full of Qwen/Qwen3-0.6B'
stage 090-whole.seed=2 'sft full of Qwen/Qwen3-0.6B'
stage 100-whole.seed=3 'sft full of Qwen/Qwen3-0.6B'
echo "== all stages are done: $run"
