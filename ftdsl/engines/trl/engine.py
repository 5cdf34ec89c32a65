"""TRL's `Engine`, which the registry loads when a recipe names it."""

from __future__ import annotations

from ftdsl.engines.engine import Engine
from ftdsl.engines.trl.abilities import NAME, TrlAbilities
from ftdsl.engines.trl.documents import PROGRAM
from ftdsl.engines.trl.merging import merge, score
from ftdsl.engines.trl.parameters import parameters
from ftdsl.engines.trl.training import STAGES, train
from ftdsl.engines.trl.unsupported import LOWERED, UNSUPPORTED

REQUIREMENTS = (
    "trl==1.16.0", "peft==0.21.2", "transformers==5.23.0", "accelerate==1.15.0", "datasets==5.2.0", "bitsandbytes",
    "orjson>=3.10", "xxhash>=3.5", "rensa>=0.5", "py3langid>=0.4",  # the data stage
)  # fmt: skip
"""Versions that were tried together; pip resolves the rest."""

ENGINE = Engine(
    abilities=TrlAbilities(),
    lowerings={**dict.fromkeys(STAGES, train), "eval": score, "merge": merge},
    methods=("full", "lora", "adapter", "prefix", "prompt"),
    lowered=LOWERED,
    unsupported=UNSUPPORTED,
    package=NAME,
    probe="trl",
    show=(PROGRAM, "show"),
    parameters=parameters,
    splits_tensors=("fsdp2",),
    requirements=REQUIREMENTS,
    linted=True,
    distributions=(
        NAME, "peft", "torch", "transformers", "datasets", "accelerate", "deepspeed", "bitsandbytes",
    ),
)  # fmt: skip
