"""`merge_adapters.py SPEC.json`: several LoRA adapters of one base become one, by PEFT, and that is merged into the base.

The combined adapter stays in the stage's folder (`adapter`). What is merged proves itself as any merge does, and `cat`, which is
an exact sum, is worked out again from the adapters.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run by path: its folder becomes the package `runtime`, and shadows none of the engine's modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = Path(__file__).resolve().parent.name
    __import__(__package__)

from . import proof, shipping
from .report import Log, StageError, carried_out, lacks, mark, marked, save_result

COMBINED = "combined"
"""The name of the adapter that all become."""


def merge(spec: dict[str, Any], log: Log) -> int:
    """Combine, merge, prove, ship. Raises: StageError."""
    paths = [str(row["adapter"]) for row in spec["adapters"]]
    for path in (spec["model"], *spec["below"], *paths):
        if marked(path) and not spec.get("smoke"):
            text = f"{path} was made by a smoke run: a toy trained for a few steps"
            raise StageError(text, "models", "from", help="name the real adapter", code="FT954")
    configs = [_config(path) for path in paths]
    _comparable(spec, paths, configs)
    target = Path(spec["to"])
    shipping.claim(target, spec["stage"])
    log.event("progress", done=0, total=3, what="loading")
    model = _loaded(spec)
    log.event("progress", done=1, total=3, what="merging")
    combined = str(Path(spec["stage"], "adapter"))
    _combine(spec, model, paths, configs, combined).save_pretrained(target, max_shard_size=spec["shard_bytes"])
    _tokenizer(spec, paths).save_pretrained(target)
    log.event("progress", done=2, total=3, what="comparing")
    if spec["method"] == "cat" and (text := _recomputed(paths, combined, [row["weight"] for row in spec["adapters"]])):
        print(text, flush=True)
        log.event("note", message=text)
    proof.prove(target, spec["model"], [*spec["below"], combined], log, revision=spec.get("revision"))
    if spec.get("smoke"):
        mark(target)
    shipping.complete(target, spec.get("card", {}), parent=spec["model"] if Path(spec["model"]).is_dir() else "")
    size = sum(path.stat().st_size for path in target.glob("*.safetensors"))
    result = {"kind": "model", "path": str(target), "metrics": {"bytes": size}}
    save_result(spec["stage"], result, smoke=bool(spec.get("smoke")))
    if push := spec.get("push"):
        shipping.upload(target, push["id"], private=bool(push.get("private")), revision=push.get("revision"))
    log.event("progress", done=3, total=3, what="saved")
    return 0


def _config(path: str) -> Any:
    """An adapter's configuration. Rank-stabilised scaling becomes plain: PEFT keeps the first adapter's flag for the combined
    one, whose scale must be 1. Raises: StageError.
    """
    from peft import PeftConfig

    try:
        config = PeftConfig.from_pretrained(path)
    except Exception as error:  # no such folder, the hub's many ways to say no, an unknown type
        text = f"{path} is no adapter that PEFT knows: {str(error).splitlines()[0][:200]}"
        raise StageError(text, "models", "from", code="FT972") from error
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    if kind != "LORA" or config.use_dora:
        text = f"{path} is {'DoRA' if kind == 'LORA' else kind}, and only plain LoRA adapters have weighted sums"
        help = "merge it into its base alone, and merge whole models: `method = linear`"
        raise StageError(text, "method", "from", help=help, code="FT972")
    if isinstance(config.init_lora_weights, str) and config.init_lora_weights.startswith(
        ("pissa", "olora", "corda", "loftq")
    ):
        text = f"{path} was started by `{config.init_lora_weights}`, so that its base is not the one it is merged into"
        help = "convert it when it is saved, or merge it into its own base"
        raise StageError(text, "from", "models", help=help, code="FT972")
    if config.use_rslora:
        if config.rank_pattern or config.alpha_pattern:
            raise StageError(f"{path} has rank-stabilised scaling and ranks by module", "from", "models", code="FT972")
        config.lora_alpha, config.use_rslora = config.lora_alpha * math.sqrt(config.r), False
    return config


def _comparable(spec: dict[str, Any], paths: list[str], configs: list[Any]) -> None:
    """Raises: StageError for adapters that the method cannot add up."""
    ranks = {config.r for config in configs}
    if spec["method"] in ("linear", "ties", "dare") and len(ranks) > 1:
        listed = ", ".join(f"{path} {config.r}" for path, config in zip(paths, configs, strict=True))
        text = f"`{spec['method']}` adds up the factors of adapters, which have ranks that differ: {listed}"
        raise StageError(text, "method", help="write `method = cat`, or `svd`", code="FT972")
    for path, config in zip(paths, configs, strict=True):
        if config.modules_to_save:
            text = (
                f"{path} holds whole modules ({', '.join(config.modules_to_save)}), of which there is no weighted sum"
            )
            help = "merge it into its base alone, and merge whole models: `method = linear`"
            raise StageError(text, "from", "models", help=help, code="FT972")


def _loaded(spec: dict[str, Any]) -> Any:
    """The base with the adapters that lie below all others."""
    import torch
    import transformers
    from peft import PeftModel

    options = {name: spec[name] for name in ("revision", "trust_remote_code") if name in spec}
    dtype = getattr(torch, spec["dtype"]) if spec.get("dtype") else "auto"
    config = transformers.AutoConfig.from_pretrained(spec["model"], **options)
    kind = getattr(transformers, (config.architectures or [""])[0], transformers.AutoModelForCausalLM)
    model = kind.from_pretrained(spec["model"], dtype=dtype, **options)
    for path in spec["below"]:
        model = PeftModel.from_pretrained(model, path).merge_and_unload()
    return model


def _combine(spec: dict[str, Any], model: Any, paths: list[str], configs: list[Any], combined: str) -> Any:
    """The base with the combined adapter merged into it; the adapter is saved. Raises: StageError for what PEFT refuses."""
    import torch
    from peft import PeftModel

    names = [f"adapter_{number}" for number in range(len(paths))]
    for path, config, name in zip(paths, configs, names, strict=True):
        config.inference_mode = True
        if name == names[0]:
            model = PeftModel.from_pretrained(model, path, adapter_name=name, config=config)
        else:
            model.add_adapter(name, config)
            model.load_adapter(path, adapter_name=name)
    if spec["method"] == "svd":
        _fold_scales(model, names)
    torch.manual_seed(spec["seed"])  # dare drops at random
    try:
        model.add_weighted_adapter(names, [row["weight"] for row in spec["adapters"]], COMBINED, **_options(spec))
    except (ValueError, RuntimeError) as error:
        text = f"PEFT refuses to combine these adapters: {str(error).splitlines()[0][:300]}"
        raise StageError(text, "method", "weights", help="write `method = cat`", code="FT972") from error
    for name in names:
        model.delete_adapter(name)
    model.set_adapter(COMBINED)
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()  # `svd` of PEFT 0.18 leaves views, which safetensors refuses
    model.save_pretrained(combined, selected_adapters=[COMBINED])
    inner = Path(combined, COMBINED)  # where PEFT puts an adapter that is not called `default`
    for file in inner.iterdir():
        file.replace(Path(combined, file.name))
    inner.rmdir()
    return model.merge_and_unload()


def _fold_scales(model: Any, names: list[str]) -> None:
    """Scales become part of the second factor: PEFT up to 0.18 multiplies by them twice in `svd`."""
    for module in model.modules():
        if not isinstance(scales := getattr(module, "scaling", None), dict):
            continue  # no LoRA; attention has a number of that name
        for name in set(names) & scales.keys() & set(module.lora_B):
            module.lora_B[name].weight.data *= scales[name]
            scales[name] = 1.0


def _options(spec: dict[str, Any]) -> dict[str, Any]:
    """The combination, in PEFT's names (peft/tuners/lora/model.py, add_weighted_adapter)."""
    method = spec["method"]
    if method == "dare":
        method = "dare_linear" if spec.get("signs") is False else "dare_ties"
    options: dict[str, Any] = {"combination_type": method}
    if spec.get("density") is not None:
        options["density"] = spec["density"]
    if method == "svd":
        options |= {"svd_rank": spec.get("rank"), "svd_full_matrices": False}
    return options


def _tokenizer(spec: dict[str, Any], paths: list[str]) -> Any:
    """The first adapter's, which has the chat template it was trained with; else the base's."""
    from transformers import AutoTokenizer

    own = Path(paths[0], "tokenizer_config.json").is_file()
    options = {name: spec[name] for name in ("revision", "trust_remote_code") if name in spec and not own}
    return AutoTokenizer.from_pretrained(paths[0] if own else spec["model"], **options)


def _recomputed(paths: list[str], combined: str, weights: list[float]) -> str:
    """The largest change of a weight, worked out again as a sum; what was compared. Raises: StageError."""
    import torch

    sums: dict[str, Any] = {}
    for path, weight in zip(paths, weights, strict=True):
        for module, change in _deltas(path):
            sums[module] = sums.get(module, 0) + weight * change
    if not sums:
        return ""
    name = max(sorted(sums), key=lambda module: float(sums[module].norm()))
    made = dict(_deltas(combined))
    error = float((made[name] - sums[name]).norm()) if name in made else math.inf
    if not error <= 1e-2 * float(sums[name].norm()) + float(torch.finfo(torch.float32).tiny):
        text = f"the combined adapter is not the weighted sum: `{name}` is off by {error:.3g}"
        raise StageError(text, "method", code="FT970")
    return f"worked out again: {name} (off by {error:.1e})"


def _deltas(path: str) -> Any:
    """Each module that an adapter changes, and its change, in single precision."""
    from peft.utils.save_and_load import load_peft_weights

    weights, config = load_peft_weights(path, device="cpu"), json.loads(_file(path).read_text(encoding="utf-8"))
    for name, down in sorted(weights.items()):
        other = name.replace(".lora_A.", ".lora_B.")
        if ".lora_A." in name and other in weights:
            module = name.partition(".lora_A.")[0]
            rank = float(down.shape[0])
            alpha = next(
                (float(value) for part, value in (config.get("alpha_pattern") or {}).items() if module.endswith(part)),
                float(config["lora_alpha"]),
            )
            scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
            yield module, scale * (weights[other].float() @ down.float())


def _file(path: str) -> Path:
    if Path(path).is_dir():
        return Path(path, "adapter_config.json")
    from transformers.utils import cached_file

    return Path(str(cached_file(path, "adapter_config.json")))


def main(argv: list[str]) -> int:
    spec = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    if lacks("peft", "PEFT"):
        return 1
    return carried_out(lambda log: merge(spec, log), Log(spec["stage"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
