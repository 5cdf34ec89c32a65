#!/usr/bin/env bash
# 40-merge: merge from sft (lora.ft:33)
# Works in the run folder. FT_PYTHON: the engine's Python.
set -euo pipefail
trap 'exit 143' TERM # asked to stop: what runs is waited for, and may still save
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export FT_PYTHON="${FT_PYTHON:-python3}"
case "$FT_PYTHON" in */*) PATH="$(dirname "$FT_PYTHON"):$PATH" ;; esac
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

"$FT_PYTHON" runtime/llamafactory.py export 40-merge/stage.json
