"""accelerate: arguments of `accelerate launch`, keys of its configuration files, fields of plugins, enums."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from ftdsl.catalog.extract.classes import UNKNOWN, Classes, Fact, first_sentence, type_of
from ftdsl.catalog.extract.packages import Package

LAUNCH = "accelerate/commands/launch.py"
CONFIG = "accelerate/commands/config/config_args.py"
DATACLASSES = "accelerate/utils/dataclasses.py"
CONSTANTS = "accelerate/utils/constants.py"
PLUGINS = ("FullyShardedDataParallelPlugin", "DeepSpeedPlugin", "ParallelismConfig", "GradientAccumulationPlugin",
           "DataLoaderConfiguration", "TorchDynamoPlugin", "MegatronLMPlugin", "TERecipeKwargs", "AORecipeKwargs",
           "MSAMPRecipeKwargs", "DeepSpeedSequenceParallelConfig", "TorchContextParallelConfig",
           "TorchTensorParallelConfig")  # fmt: skip
ENUMS = ("DistributedType", "ComputeEnvironment", "DynamoBackend", "PrecisionType", "FP8BackendType")


def tables(package: Package) -> dict[str, dict[str, Any]]:
    """`launch` by destination, `config` (keys of the file) and `plugins` by `Class.field`, `enums`, `constants`."""
    classes = Classes(package, [CONFIG, DATACLASSES, "accelerate/parallelism_config.py", CONSTANTS])
    constants = next(module for module in classes.modules if module.path == CONSTANTS).constants
    lists = {name: classes.value(node, constants) for name, node in constants.items()}
    return {
        "launch": dict(_arguments(package, classes, constants)),
        "config": classes.fields("ClusterConfig"),
        "plugins": {f"{name}.{field}": fact for name in PLUGINS for field, fact in classes.fields(name).items()},
        "enums": {f"{name}.{value}": {} for name in ENUMS for value in classes.members(name).values()},
        "constants": {name: value for name, value in lists.items() if isinstance(value, list)},
    }


def _arguments(package: Package, classes: Classes, constants: Any) -> Iterator[tuple[str, Fact]]:
    """Every `add_argument` of the launch command's parser, the positional ones left out."""
    tree = ast.parse(package.text(LAUNCH))
    parser = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "launch_command_parser")
    for node in ast.walk(parser):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr != "add_argument":
            continue
        flags = [str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)]
        if flags and flags[0].startswith("-"):
            keywords = {k.arg: k.value for k in node.keywords if k.arg}
            yield _destination(flags, keywords), _argument(flags, keywords, classes, constants)


def _destination(flags: list[str], keywords: dict[str, ast.expr]) -> str:
    named = keywords.get("dest")
    if isinstance(named, ast.Constant):
        return str(named.value)
    return next((f for f in flags if f.startswith("--")), flags[0]).lstrip("-").replace("-", "_")


def _argument(flags: list[str], keywords: dict[str, ast.expr], classes: Classes, constants: Any) -> Fact:
    action = keywords.get("action")
    switch = isinstance(action, ast.Constant) and str(action.value).startswith("store_")
    fact: Fact = {"type": "bool" if switch else type_of(keywords["type"]) if "type" in keywords else "str"}
    default = classes.value(keywords.get("default"), constants)
    if default is not UNKNOWN:
        fact["default"] = default
    choices = classes.value(keywords.get("choices"), constants)
    if choices is not UNKNOWN:
        fact["choices"] = choices
    if len(flags) > 1:
        fact["flags"] = flags
    text = classes.value(keywords.get("help"), constants)
    return fact | ({"help": first_sentence(text)} if isinstance(text, str) else {})
