"""`read_layouts.py CALLS.json FOUND.json`, under the engine's Python: launch lines and their files read by the tools' own code.

Of each call: who starts it, with what script and words, how many processes at least and at most, which files were read on
the way, and the first error. Nothing is started.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import yaml

Found = dict[str, Any]
HIDDEN = types.SimpleNamespace(config=types.SimpleNamespace(hidden_size=1024))
SCHEMA = Path(__file__).parents[2] / "ftdsl/catalog/data/mcore-adapter.json"


def torchrun(words: list[str]) -> Found:
    from torch.distributed.run import get_args_parser

    return _elastic(get_args_parser().parse_args(words))


def _elastic(args: argparse.Namespace) -> Found:
    """What torchrun would launch. Raises: ValueError."""
    from torch.distributed.run import config_from_args

    config, _, _ = config_from_args(args)
    per_node = config.nproc_per_node
    world = [config.min_nodes * per_node, config.max_nodes * per_node]
    return {"script": args.training_script, "words": args.training_script_args, "world": world}


def accelerate(words: list[str]) -> Found:
    """As `accelerate launch` goes on, up to torchrun's own arguments; then the plugins under the environment it sets."""
    import torch
    from accelerate.commands import launch
    from accelerate.utils import FullyShardedDataParallelPlugin, ParallelismConfig, patch_environment
    from accelerate.utils.launch import _filter_args, prepare_deepspeed_cmd_env, prepare_multi_gpu_env
    from torch.distributed.run import get_args_parser

    args = launch.launch_command_parser().parse_args(words)
    _known(yaml.safe_load(Path(args.config_file).read_text(encoding="utf-8")), args)
    args, defaults, _ = launch._validate_launch_command(args)
    rest = ["--training_script", args.training_script, "--training_script_args", args.training_script_args]
    if args.use_deepspeed:
        args.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        _, env = prepare_deepspeed_cmd_env(args)
        _deepspeed_file(args.deepspeed_config_file)
    else:
        env = prepare_multi_gpu_env(args)
        if not torch.cuda.is_available():  # the plugin of FSDP 1 would ask for the card on which to share the weights
            env |= {"FSDP_SYNC_MODULE_STATES": "false", "FSDP_CPU_RAM_EFFICIENT_LOADING": "false"}
    with patch_environment(**env):
        if args.use_fsdp:
            plugin = FullyShardedDataParallelPlugin()
            if (plugin.fsdp_version, plugin.state_dict_type.name) != (args.fsdp_version, args.fsdp_state_dict_type):
                raise ValueError(f"the plugin became {plugin}")
        if args.use_parallelism_config:
            ParallelismConfig()
    found = _elastic(_filter_args(args, get_args_parser(), rest))
    return {**found, "accelerate": str(Path(args.config_file).absolute())}


def _known(written: dict[str, Any], args: argparse.Namespace) -> None:
    """Keys inside sections are destinations of the command's own parser: accelerate itself says nothing about others.

    Raises: ValueError.
    """
    for section in ("fsdp_config", "deepspeed_config", "parallelism_config"):
        for key in written.get(section, {}):
            if not hasattr(args, key):
                raise ValueError(f"{section} has no key {key}")


def deepspeed(words: list[str]) -> Found:
    """As `deepspeed` goes on, up to the list of slots. A CPU has as many as are asked for."""
    from deepspeed.launcher import runner

    args = runner.parse_args(words)
    pool = runner.fetch_hostfile(args.hostfile) or {"localhost": 16}
    slots = runner.parse_inclusion_exclusion(pool, args.include, args.exclude)
    slots = runner.apply_num_nodes_and_gpus(slots, args.num_nodes, args.num_gpus)
    if args.no_ssh and not 0 <= args.node_rank < len(slots):
        raise ValueError("no node of that rank")
    size = sum(len(cards) for cards in slots.values())
    return {"script": args.user_script, "words": args.user_args, "world": [size, size]}


def ray(words: list[str], config: Found) -> Found:
    from llamafactory.hparams.parser import RayArguments, get_ray_args

    unknown = [key for key in config if key.startswith("ray_") and key not in RayArguments.__dataclass_fields__]
    if unknown:
        raise ValueError(f"no Ray argument is named {unknown[0]}")
    size = get_ray_args(dict(config)).ray_num_workers
    return {"script": words[0], "words": words[1:], "world": [size, size]}


def _deepspeed_file(path: str, config: Found | None = None) -> None:
    """Accepted by DeepSpeed; with `config`, after Hugging Face has filled it in and held it against the YAML.

    Raises: ValueError.
    """
    from deepspeed.runtime.config import DeepSpeedConfig
    from transformers import TrainingArguments
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

    filled = HfTrainerDeepSpeedConfig(path)
    if config is not None:
        names = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
        known = {key: value for key, value in config.items() if key in names}
        args = TrainingArguments(**{**known, "deepspeed": None, "use_cpu": True, "report_to": "none", "tf32": None,
                                    "fp16": False, "optim": "adamw_torch"})  # fmt: skip
        args.fp16 = bool(config.get("fp16"))
        filled.trainer_config_process(args)
        filled.trainer_config_finalize(args, HIDDEN, 10)
    left = [key for key, value in _leaves(filled.config) if value == "auto"]
    if config is not None and left:
        raise ValueError(f"nobody fills in {left}")
    DeepSpeedConfig({key: value for key, value in filled.config.items() if config is not None or value != "auto"})


def _leaves(tree: dict[str, Any]) -> list[tuple[str, Any]]:
    found = []
    for key, value in tree.items():
        found += _leaves(value) if isinstance(value, dict) else [(key, value)]
    return found


def _megatron(config: Found) -> None:
    """Every parameter is one of the engine's, or of the adapter's as its sources define it. Raises: ValueError."""
    from llamafactory.hparams import DataArguments, FinetuningArguments, ModelArguments
    from transformers import TrainingArguments

    known = set(json.loads(SCHEMA.read_text(encoding="utf-8"))["names"])
    for kind in (DataArguments, FinetuningArguments, ModelArguments, TrainingArguments):
        known |= {field.name for field in dataclasses.fields(kind)}
    if unknown := set(config) - known:
        raise ValueError(f"neither the engine nor the adapter has {sorted(unknown)}")


def read(call: Found) -> Found:
    """One call, in its own run folder and environment."""
    os.chdir(call["cwd"])
    words: list[str] = call["argv"]
    if words[0] == "runtime/retry.py":  # which starts what stands after `--`, by a Python that is named again
        words = words[words.index("--") + 2 :]
    meeting = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
    for name in meeting:
        os.environ.pop(name, None)
    os.environ.update({name: value for name, value in call["env"].items() if name in meeting})
    stage = json.loads(Path(next(word for word in words if word.endswith("/stage.json"))).read_text(encoding="utf-8"))
    config = yaml.safe_load(Path(stage["parts"][0]["config"]).read_text(encoding="utf-8"))
    starters = {"torch.distributed.run": torchrun, "accelerate.commands.launch": accelerate,
                "deepspeed.launcher.runner": deepspeed}  # fmt: skip
    found: Found = {"starter": "python", "script": "", "words": [], "world": [1, 1], "error": ""}
    try:
        if words[0] == "-m":
            found["starter"] = words[1].split(".")[0].replace("torch", "torchrun")
            found |= starters[words[1]](words[2:])
        elif call["env"].get("USE_RAY"):
            found |= {"starter": "ray", **ray(words, config)}
        if config.get("deepspeed"):
            _deepspeed_file(config["deepspeed"], config)
            found["ds_config"] = config["deepspeed"]
        if call["env"].get("USE_MCA"):
            _megatron(config)
    except (Exception, SystemExit) as error:
        found["error"] = f"{type(error).__name__}: {error}"
    return found


def main() -> None:
    calls = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out = Path(sys.argv[2]).absolute()
    out.write_text(json.dumps([read(call) for call in calls]), encoding="utf-8")


if __name__ == "__main__":
    main()
