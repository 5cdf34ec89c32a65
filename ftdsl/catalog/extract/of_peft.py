"""PEFT: the fields of its configuration classes, and the modules it adapts by itself per architecture."""

from __future__ import annotations

from typing import Any

from ftdsl.catalog.extract.classes import UNKNOWN, Classes
from ftdsl.catalog.extract.packages import Package

TARGETS = "TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING"


def tables(package: Package) -> dict[str, dict[str, Any]]:
    """`parameters` by `Class.field`, `classes`, `targets`: architecture -> modules that LoRA takes by default."""
    paths = [path for path in package.below("peft") if path.endswith("config.py")]
    classes = Classes(package, [*paths, "peft/tuners/lycoris_utils.py"])
    own = [name for name in classes.where if name.endswith("Config") and "tuners/" in classes.where[name].path]
    parameters = {f"{name}.{field}": fact for name in own for field, fact in classes.fields(name).items()}
    constants = Classes(package, ["peft/utils/constants.py"])
    module = constants.modules[0]
    targets = constants.value(module.constants[TARGETS], module.constants)
    return {
        "parameters": parameters,
        "classes": {name: {"file": classes.where[name].path} for name in own},
        "targets": {} if targets is UNKNOWN else {name: list(modules) for name, modules in targets.items()},
    }
