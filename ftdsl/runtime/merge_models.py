"""`merge_models.py SPEC.json`: several models become one, by mergekit in its own environment.

Checked first: architectures, shapes, vocabularies, tokenizers, disk and memory. Afterwards the model proves itself: it loads, and
where the method has a closed form, the tensor in which the models differ most is worked out again.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if (
    not __package__
):  # run by path: its folder becomes the package `runtime`, and stands in for none of the tool's modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = Path(__file__).resolve().parent.name
    __import__(__package__)

from . import proof, shipping
from .report import Log, StageError, carried_out, lacks, mark, marked, save_result

METHODS = {"dare": "dare_ties"}
"""mergekit's names, where they are not ours."""

SHAPE = ("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
         "head_dim", "vocab_size", "num_experts", "num_local_experts", "tie_word_embeddings")  # fmt: skip
"""Entries of config.json that decide the shape of a tensor, or whether there is one."""

PAGE = 4 << 20
"""Bytes of headers, tokenizer and configuration, at most."""


def merge(spec: dict[str, Any], log: Log) -> int:
    """Check, merge, prove, ship. Raises: StageError."""
    log.event("progress", done=0, total=3, what="comparing")
    every = [*spec["models"], *([spec["base"]] if spec.get("base") else [])]
    paths = {row["model"]: _local(row) for row in every}
    if not spec.get("smoke"):
        for row in every:
            if marked(paths[row["model"]]):
                text = f"{row['model']} was made by a smoke run: a toy trained for a few steps"
                raise StageError(text, "models", "from", help="name the real model", code="FT954")
    check(paths, log)
    target = Path(spec["to"])
    _room(paths, target, spec)
    shipping.claim(target, spec["stage"])
    log.event("progress", done=1, total=3, what="merging")
    _merge(spec, paths, target)
    log.event("progress", done=2, total=3, what="comparing")
    for text in (_recomputed(spec, paths, target), proof.reload(target)):
        if text:
            print(text, flush=True)
            log.event("note", message=text)
    if spec.get("smoke"):
        mark(target)
    size = sum(path.stat().st_size for path in target.glob("*.safetensors"))
    save_result(
        spec["stage"], {"kind": "model", "path": str(target), "metrics": {"bytes": size}}, smoke=bool(spec.get("smoke"))
    )
    shipping.complete(target, spec.get("card", {}), parent=paths[spec["models"][0]["model"]])
    if push := spec.get("push"):
        shipping.upload(target, push["id"], private=bool(push.get("private")), revision=push.get("revision"))
    log.event("progress", done=3, total=3, what="saved")
    return 0


def _local(row: dict[str, Any]) -> str:
    """The folder of a model; one of the Hub is fetched. Absolute, since mergekit takes a relative path for a name of the Hub."""
    if Path(row["model"]).is_dir():
        return str(Path(row["model"]).resolve())
    from huggingface_hub import snapshot_download

    try:
        patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
        return str(snapshot_download(row["model"], revision=row.get("revision"), allow_patterns=patterns))
    except Exception as error:  # the hub's many ways to say no
        text = f"`{row['model']}` is no folder here, and cannot be had from the Hub: {str(error).splitlines()[0][:200]}"
        raise StageError(text, "models", "model", "from", code="FT972") from error


def _config(path: str) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(Path(path, "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StageError(
            f"{path} is no model: its config.json cannot be read", "models", "from", code="FT972"
        ) from error
    return config.get("text_config") or config


def check(paths: dict[str, str], log: Log) -> None:
    """Raises: StageError for models that cannot be merged; warns where their tokenizers differ."""
    names = list(paths)
    first = _config(paths[names[0]])
    for name in names[1:]:
        other = _config(paths[name])
        for key in SHAPE:
            if first.get(key) != other.get(key):
                text = f"{names[0]} and {name} cannot be merged: `{key}` is {first.get(key)} and {other.get(key)}"
                help = "merge models that were trained from one base"
                raise StageError(text, "models", "from", "method", help=help, code="FT972")
        missing = set(proof.Tensors(paths[names[0]])) ^ set(proof.Tensors(paths[name]))
        if missing:
            text = f"{names[0]} and {name} cannot be merged: only one of them has `{sorted(missing)[0]}`"
            raise StageError(text, "models", "from", "method", code="FT972")
        if (mine := _vocabulary(paths[names[0]])) and (theirs := _vocabulary(paths[name])) and mine != theirs:
            differ = sum(mine.get(token) != number for token, number in theirs.items())
            text = f"the tokenizers of {names[0]} and {name} differ in {differ:,} tokens, which are merged all the same"
            log.warn(StageError(text, "models", "from", help="merge models with one tokenizer", code="FT972"))


def _vocabulary(path: str) -> dict[str, int]:
    try:
        tokenizer = json.loads(Path(path, "tokenizer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    vocabulary = (tokenizer.get("model") or {}).get("vocab")
    added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens", ())}
    return {**(vocabulary if isinstance(vocabulary, dict) else {}), **added}


def _room(paths: dict[str, str], target: Path, spec: dict[str, Any]) -> None:
    """Raises: StageError where the disk, or the memory for one tensor of each model, is too small."""
    from safetensors import safe_open

    sizes = [sum(file.stat().st_size for file in Path(path).glob("*.safetensors")) for path in paths.values()]
    needed = max(sizes) * (2 if spec.get("dtype") == "float32" else 1) + PAGE
    disk_folder = next(folder for folder in (target, *target.resolve().parents) if folder.exists())
    free = shutil.disk_usage(disk_folder).free
    if free < needed:
        text = f"the merged model needs {needed / 1e9:.1f} GB, and {disk_folder} has {free / 1e9:.1f} GB left"
        raise StageError(text, "to", code="FT972")
    largest = 0
    for file in Path(next(iter(paths.values()))).glob("*.safetensors"):
        with safe_open(str(file), framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                count = 1
                for side in tensors.get_slice(name).get_shape():
                    count *= side
                largest = max(largest, count)
    memory = largest * 4 * (2 * len(paths) + 1)  # of each model as it is and in fp32, and the result
    if memory > proof.free_memory():
        free_memory = proof.free_memory() / 1e9
        text = f"merging the largest tensor needs {memory / 1e9:.1f} GB of memory, and {free_memory:.1f} GB are free"
        raise StageError(text, "models", "method", code="FT972")


def configuration(spec: dict[str, Any], paths: dict[str, str]) -> dict[str, Any]:
    """mergekit's YAML, as data (https://github.com/arcee-ai/mergekit, docs/merge_methods.md)."""
    method = spec["method"]
    name = "dare_linear" if method == "dare" and spec.get("signs") is False else METHODS.get(method, method)
    models = []
    for row in spec["models"]:
        parameters = {}
        if method not in ("slerp", "model_stock"):
            parameters["weight"] = float(row.get("weight", 1.0))
        if method in ("ties", "dare"):
            parameters["density"] = float(row.get("density", spec.get("density", 1.0)))
        models.append({"model": paths[row["model"]]} | ({"parameters": parameters} if parameters else {}))
    config: dict[str, Any] = {"merge_method": name, "models": models}
    if method == "slerp":
        config |= {"base_model": paths[spec["models"][0]["model"]], "parameters": {"t": float(spec.get("t", 0.5))}}
    elif spec.get("base"):
        config["base_model"] = paths[spec["base"]["model"]]
    if method == "linear" and "normalize" in spec:
        config["parameters"] = {"normalize": bool(spec["normalize"])}
    if spec.get("dtype"):
        config["dtype"] = spec["dtype"]
    return config


def _merge(spec: dict[str, Any], paths: dict[str, str], target: Path) -> None:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    config = configuration(spec, paths)
    Path(spec["stage"], "mergekit.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    trusted = any(row.get("trust_remote_code") for row in spec["models"])
    options = MergeOptions(
        copy_tokenizer=True, out_shard_size=spec["shard_bytes"], random_seed=spec["seed"], trust_remote_code=trusted,
        lazy_unpickle=True, write_model_card=False, quiet=True,
    )  # fmt: skip
    run_merge(MergeConfiguration.model_validate(config), str(target.resolve()), options)


def _recomputed(spec: dict[str, Any], paths: dict[str, str], target: Path) -> str:
    """One tensor, worked out again for the methods that are plain sums; what was compared. Raises: StageError."""
    import torch

    if spec["method"] not in ("linear", "task_arithmetic"):
        return ""
    rows = [(proof.Tensors(paths[row["model"]]), float(row.get("weight", 1.0))) for row in spec["models"]]
    base = proof.Tensors(paths[spec["base"]["model"]]) if spec.get("base") else None
    after = proof.Tensors(str(target))
    name = _most_different(rows, base, after)
    if not name:
        return "the models are equal: there is nothing to compare"
    parts = [tensors.read(name).double() * weight for tensors, weight in rows]
    total = sum(weight for _, weight in rows)
    if spec["method"] == "linear":
        wanted = sum(parts) / (total if spec.get("normalize", True) else 1.0)
    else:
        assert base is not None, "checked when the recipe was compiled"
        start = base.read(name).double()
        wanted = start + sum(parts) - total * start
    result = after.read(name)
    error = float(torch.linalg.vector_norm(wanted - result.double()))
    rounding = 2 * len(rows) * torch.finfo(result.dtype).eps * float(torch.linalg.vector_norm(wanted))
    if not error <= rounding:
        text = f"what was merged is not the {spec['method']} of its models: `{name}` is off by {error:.3g}"
        raise StageError(text, "method", code="FT970")
    return f"worked out again: {name} (off by {error:.1e})"


def _most_different(rows: list[tuple[proof.Tensors, float]], base: proof.Tensors | None, after: proof.Tensors) -> str:
    """The matrix in which the first model differs most from another, among the first and last layers'."""
    first, other = rows[0][0], base or rows[-1][0]
    names = [name for name in _matrices(first) if name in set(after)]
    best, most = "", 0.0
    for name in names[:8] + names[-8:]:
        difference = float((first.read(name).double() - other.read(name).double()).abs().max())
        if difference > most:
            best, most = name, difference
    return best


def _matrices(tensors: proof.Tensors) -> Iterator[str]:
    return (name for name in sorted(tensors) if name.endswith("_proj.weight"))


def main(argv: list[str]) -> int:
    spec = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    if lacks("mergekit", "mergekit", "FT_MERGEKIT_PYTHON"):
        return 1
    return carried_out(lambda log: merge(spec, log), Log(spec["stage"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
