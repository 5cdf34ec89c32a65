#!/usr/bin/env bash
# qwen3-14b-lora: every stage in order, stopping at the first that fails; 2 nodes.
# The handbook's 14B configuration, as it was meant: LoRA on four cards, ZeRO-3.
#
# On each node, with one RUN_FOLDER that all of them see (a shared disk):
#   NODE_RANK=0 MASTER_ADDR=ADDRESS_OF_THE_FIRST bash run.sh RUN_FOLDER   # the first node
#   NODE_RANK=1 MASTER_ADDR=ADDRESS_OF_THE_FIRST bash run.sh RUN_FOLDER   # the second
#
# Stages of one node run on the first; the others wait for them. FT_PYTHON: the Python of llamafactory (default:
# python3). Stages that are done are not run again: remove their folder, or name another run folder, to start anew.
set -euo pipefail
build="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
run="${1:-runs/qwen3-14b-lora/by-hand}"
export NODE_RANK="${NODE_RANK:?0 on the first node, 1 on the next, and so on}"
export FT_PYTHON="${FT_PYTHON:-python3}"
case "$FT_PYTHON" in */*) FT_PYTHON="$(cd "$(dirname "$FT_PYTHON")" && pwd)/$(basename "$FT_PYTHON")" ;; esac

mkdir -p "$run"
if [ "$NODE_RANK" -eq 0 ]; then
  ln -sfn "$(cd "$build/inputs" && pwd -P)" "$run/inputs"
  cp -R "$build/runtime" "$run/"
  cp "$build/run.sh" "$build/manifest.json" "$run/"
fi
cd "$run"
touch ".node-$NODE_RANK" # what failed before this moment is not this run's failure

same() { # FOLDER: leaves when what is done was done by another build; comments and places in the recipe do not count
  local file
  for file in "$build/$1"/*; do
    if ! cmp -s <(plain "$file") <(plain "$1/${file##*/}"); then
      echo "== $1: was done by another build (${file##*/} differs): remove $run/$1, or name another run folder" >&2
      exit 1
    fi
  done
  [ "$NODE_RANK" -ne 0 ] || [ ! -e "$1/.by-hand.json" ] || "$FT_PYTHON" -E runtime/by_hand.py same "$1" || {
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

stage() { # FOLDER TITLE NODES
  if [ -e "$1/done" ]; then
    same "$1"
    echo "== $1: done before"
  elif [ "$NODE_RANK" -eq 0 ]; then
    lead "$1" "$2"
  else
    follow "$1" "$2" "$3"
  fi
}

lead() { # FOLDER TITLE: on the first node
  echo "== $1: $2"
  mkdir -p "$1"
  cp -R "$build/$1/." "$1/"
  FTC_STAGE_KEY="$(record begin "$1")" # its destination is marked with it: no checkpoint of another build is resumed
  export FTC_STAGE_KEY
  touch "$1/open"
  local status=0
  bash "$1/launch.sh" 2>&1 | tee "$1/log.txt" || status=$?
  rm -f "$1/open"
  if [ "$status" -ne 0 ]; then
    touch "$1/failed"
    echo "== $1: failed with status $status; its log is $run/$1/log.txt" >&2
    exit "$status"
  fi
  record end "$1"
  touch "$1/done"
}

follow() { # FOLDER TITLE NODES: on the others, which take part in what runs on several and wait for the rest
  local status=0
  if [ "$3" -gt 1 ]; then
    until [ -e "$1/open" ] || [ -e "$1/done" ]; do failed "$1"; sleep 1; done
    if [ ! -e "$1/done" ]; then
      echo "== $1: $2"
      bash "$1/launch.sh" 2>&1 | tee "$1/log.node-$NODE_RANK.txt" || status=$?
    fi
  fi
  if [ "$status" -ne 0 ]; then
    echo "== $1: failed with status $status; its log is $run/$1/log.node-$NODE_RANK.txt" >&2
    exit "$status"
  fi
  until [ -e "$1/done" ]; do failed "$1"; sleep 1; done
}

failed() { # FOLDER: leaves when the first node has given up
  if [ "$1/failed" -nt ".node-$NODE_RANK" ]; then
    echo "== $1: failed on the first node; its log is $run/$1/log.txt" >&2
    exit 1
  fi
}

stage 10-sft 'sft full of Qwen/Qwen3-14B' 2
echo "== all stages are done: $run"
