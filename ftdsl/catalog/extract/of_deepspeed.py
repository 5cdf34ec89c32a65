"""DeepSpeed: the keys of its JSON, at the top level and in each section, with aliases and what is deprecated."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping

from ftdsl.catalog.extract.classes import UNKNOWN, Classes, Fact, Module
from ftdsl.catalog.extract.packages import Package

MAIN = "deepspeed/runtime/config.py"
CONSTANTS = "deepspeed/runtime/constants.py"

MODELS = {
    "zero_optimization": "DeepSpeedZeroConfig",
    "zero_optimization.offload_param": "DeepSpeedZeroOffloadParamConfig",
    "zero_optimization.offload_optimizer": "DeepSpeedZeroOffloadOptimizerConfig",
    "zero_optimization.zenflow": "ZenFlowConfig",
    "zero_optimization.leaf_module": "DeepSpeedZeroLeafModuleConfig",
    "fp16": "DeepSpeedFP16Config",
    "bf16": "DeepSpeedBF16Config",
    "comms_logger": "CommsLoggerConfig",
    "compile": "CompileConfig",
    "hybrid_engine": "HybridEngineConfig",
    "tensor_parallel": "TPTrainingConfig",
    "tensorboard": "TensorBoardConfig",
    "wandb": "WandbConfig",
    "csv_monitor": "CSVConfig",
    "comet": "CometConfig",
}
"""Sections that are a model of pydantic: section -> class."""

READ = {
    "flops_profiler": "deepspeed/profiling/config.py",
    "activation_checkpointing": "deepspeed/runtime/activation_checkpointing/config.py",
    "aio": "deepspeed/runtime/swap_tensor/aio_config.py",
}
"""Sections read key by key in a separate file."""

OPEN = {
    "elasticity": "deepspeed/elasticity/config.py",
    "autotuning": "deepspeed/autotuning/config.py",
    "compression_training": "deepspeed/compression/config.py",
    "nebula": "deepspeed/nebula/config.py",
    "data_efficiency": "deepspeed/runtime/data_pipeline/config.py",
    "curriculum_learning": "deepspeed/runtime/data_pipeline/config.py",
    "expert_parallel": "deepspeed/module_inject/auto_ep_config.py",
}
"""Sections that are known by name only, and the file that reads them."""

LOCAL = {"data_types_params": "data_types", "checkpoint_params": "checkpoint"}
"""Variables of runtime/config.py that hold a section."""


PREFIXES = {"FP16": "fp16", "BFLOAT16": "bf16"}
"""Sections of older versions: constants with this prefix are their keys."""

NO_KEYS = ("bf16.bfloat16", "mode", "attention")
"""Not keys: another spelling of a section, and keys of something else."""


def tables(package: Package) -> dict[str, dict[str, Fact]]:
    """`config` by dotted key (`zero_optimization.stage`)."""
    paths = [path for path in package.below("deepspeed") if path.endswith("config.py") and "/inference/" not in path]
    classes = Classes(package, [*paths, "deepspeed/runtime/zero/offload_config.py"], members_are_choices=True)
    module = Module(MAIN, package.text(MAIN))
    constants = _constants(package)
    keys = dict(_read(classes, module, {**constants, **module.constants}, {"param_dict": "", **LOCAL}))
    keys |= {section: {"type": "dict"} for section, path in OPEN.items() if package.has(path)}
    for name, node in Module(CONSTANTS, package.text(CONSTANTS)).constants.items():
        section = PREFIXES.get(name.partition("_")[0])
        if section and isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            keys.setdefault(f"{section}.{node.value}", {"type": "Any"})
    for section, path in READ.items():
        own = Module(path, package.text(path))
        for key, fact in _read(classes, own, {**constants, **own.constants}, {}):
            if key != section:
                keys[f"{section}.{key}"] = fact
    for section, name in MODELS.items():
        keys |= {f"{section}.{field}": fact for field, fact in classes.fields(name).items()}
    for key in [key for key in keys if "." in key]:
        keys.setdefault(key.rpartition(".")[0], {"type": "dict"})
    return {"config": {key: fact for key, fact in keys.items() if key not in NO_KEYS}}


def _read(
    reader: Classes, module: Module, known: Mapping[str, ast.expr], owners: Mapping[str, str]
) -> Iterator[tuple[str, Fact]]:
    """Keys that a module reads. owners: variable -> its section; {} for any variable."""

    def text(node: ast.expr) -> str | None:
        value = reader.value(node, known)
        return value if isinstance(value, str) else None

    for node in ast.walk(module.tree):
        for owner, key, default in _asked(node):
            section = _section(owner, owners, text)
            name = text(key)
            if section is None or name is None:
                continue
            value = reader.value(default, known) if default is not None else UNKNOWN
            yield f"{section}{name}", {"type": _type(value)} | ({} if value is UNKNOWN else {"default": value})


def _section(owner: ast.expr, owners: Mapping[str, str], text: Callable[[ast.expr], str | None]) -> str | None:
    """`zero_optimization.` for a variable or `param_dict[ZERO_OPTIMIZATION]`; None for anything else."""
    if isinstance(owner, ast.Call) and isinstance(owner.func, ast.Attribute) and owner.func.attr == "keys":
        owner = owner.func.value
    if isinstance(owner, ast.Subscript):
        above = _section(owner.value, owners, text)
        name = text(owner.slice)
        return None if above is None or name is None else f"{above}{name}."
    word = ast.unparse(owner)
    if not owners:
        return "" if isinstance(owner, ast.Name) else None
    return None if word not in owners else f"{owners[word]}." if owners[word] else ""


def _asked(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr, ast.expr | None]]:
    """(object, key, default) of `get_scalar_param(…)`, `….get(KEY)`, `…[KEY]`, `KEY in …`."""
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if called.startswith("get_") and len(node.args) == 3:
            yield node.args[0], node.args[1], node.args[2]
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
            yield node.func.value, node.args[0], node.args[1] if len(node.args) > 1 else None
    elif isinstance(node, ast.FunctionDef) and len(node.args.defaults) == 2 and len(node.args.args) == 3:
        yield ast.Name(node.args.args[0].arg), node.args.defaults[0], node.args.defaults[1]
    elif isinstance(node, ast.Subscript):
        yield node.value, node.slice, None
    elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In):
        yield node.comparators[0], node.left, None


def _type(value: object) -> str:
    if value is UNKNOWN or value is None:
        return "Any"
    return {bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "dict"}.get(type(value), "Any")


def _constants(package: Package) -> Mapping[str, ast.expr]:
    """Constants of the modules that name keys; those of runtime/ take precedence."""
    constants: dict[str, ast.expr] = {}
    paths = [name for name in package.below("deepspeed") if name.endswith("constants.py") and "/inference/" not in name]
    for path in sorted(paths, key=lambda name: name == CONSTANTS):
        constants |= Module(path, package.text(path)).constants
    return constants
