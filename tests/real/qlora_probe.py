"""Run by test_trl_qlora.py under TRL's Python: documents.json -> read.json, what TRL and PEFT make of each as on a GPU.

Fields go through the classes' own checks and `__post_init__`, the quantisation through TRL's `get_quantization_config`, the
adapter through PEFT's class. Nothing is loaded.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import transformers.training_args as training_args
import trl
from peft import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import HfArgumentParser
from trl import ModelConfig, get_quantization_config

training_args.is_torch_bf16_gpu_available = lambda: True  # a document for a GPU, read where there is none
OURS = ("data", "peft", "adapter_name_or_path")


def read(document: dict[str, Any], name: str) -> dict[str, Any]:
    params = {key: value for key, value in document.items() if key not in OURS}
    if name in ("GRPOConfig", "DistillationConfig"):
        params.pop("max_length", None)  # the window of prompt and answer: ftdsl's runtime filters by it
    args, model = HfArgumentParser((getattr(trl, name), ModelConfig)).parse_dict(params)
    bits = get_quantization_config(model)
    peft = dict(document["peft"])
    adapter = PEFT_TYPE_TO_CONFIG_MAPPING[peft.pop("peft_type")](**peft)
    return {
        "bits": 4 if bits.load_in_4bit else 8 if bits.load_in_8bit else 0, "kind": bits.bnb_4bit_quant_type,
        "double": bits.bnb_4bit_use_double_quant, "compute": str(bits.bnb_4bit_compute_dtype), "bf16": args.bf16,
        "checkpointing": args.gradient_checkpointing, "rank": adapter.r, "targets": sorted(adapter.target_modules)
        if not isinstance(adapter.target_modules, str) else adapter.target_modules, "rate": args.learning_rate,
    }  # fmt: skip


documents = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
Path(sys.argv[2]).write_text(json.dumps({key: read(*value) for key, value in documents.items()}), encoding="utf-8")
