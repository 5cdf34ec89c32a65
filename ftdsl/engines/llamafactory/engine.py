"""LLaMA-Factory's `Engine`, which the registry loads when a recipe names it."""

from __future__ import annotations

from ftdsl.engines.engine import Engine
from ftdsl.engines.llamafactory.abilities import NAME, LlamaFactoryAbilities
from ftdsl.engines.llamafactory.merging import merge, quantise
from ftdsl.engines.llamafactory.runtime_modules import PROGRAM
from ftdsl.engines.llamafactory.scoring import score
from ftdsl.engines.llamafactory.training import STAGES, train
from ftdsl.engines.llamafactory.unsupported import LOWERED, UNSUPPORTED

ENGINE = Engine(
    abilities=LlamaFactoryAbilities(),
    lowerings={**dict.fromkeys(STAGES, train), "eval": score, "merge": merge, "quantize": quantise},
    methods=("full", "freeze", "lora", "oft"),
    lowered=LOWERED,
    unsupported=UNSUPPORTED,
    package=NAME,
    probe="llamafactory.train.tuner",
    show=(PROGRAM, "show"),
    linted=True,
    step_rows="step_rows.py",
    distributions=(
        NAME, "torch", "transformers", "datasets", "accelerate", "peft", "trl", "deepspeed", "bitsandbytes",
    ),
)  # fmt: skip
