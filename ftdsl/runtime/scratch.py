"""`scratch.py SPEC.json`: a small model with random weights, and a tokenizer trained on the recipe's data.

Byte-level BPE (Sennrich et al. 2016; bytes as in GPT-2), so that every text can be written. Weights start wide
(initializer_range 0.1) and embeddings are not tied: at 0.02 and tied, a toy of this size hardly learns.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>")
CONTEXT = 4096


def texts_of(path: str) -> Iterator[str]:
    """Every text in a file of rows, whatever its shape."""
    text = Path(path).read_text(encoding="utf-8-sig")
    try:
        yield from strings(json.loads(text))
        return
    except ValueError:
        pass
    for line in text.splitlines():
        try:
            yield from strings(json.loads(line))
        except ValueError:
            yield line


def strings(value: Any) -> Iterator[str]:
    """The texts in a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def event(folder: Path, done: int, total: int, what: str) -> None:
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as handle:
        handle.write(json.dumps({"event": "progress", "done": done, "total": total, "what": what}) + "\n")


def make_tokenizer(spec: dict[str, Any]) -> Any:
    """A fast tokenizer of at most `vocab` tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.get("vocab") or 2048,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = (text for path in spec["texts"] for text in texts_of(path))
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=CONTEXT
    )


def make_config(spec: dict[str, Any], tokenizer: Any) -> Any:
    """The shape of the model: `like` another, or as the spec says."""
    from transformers import AutoConfig

    hidden = spec.get("hidden") or 64
    heads = spec.get("heads") or (4 if hidden % 4 == 0 else 1)
    if hidden % heads:
        raise SystemExit(f"error: hidden = {hidden} cannot be split into {heads} heads")
    shape = {
        "hidden_size": hidden,
        "num_hidden_layers": spec.get("layers") or 2,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": hidden // heads,
        "intermediate_size": 4 * hidden,
    }
    if spec.get("like"):
        config = AutoConfig.from_pretrained(spec["like"])
        given = {"hidden": ("hidden_size", "intermediate_size", "head_dim"), "layers": ("num_hidden_layers",),
                 "heads": ("num_attention_heads", "num_key_value_heads", "head_dim")}  # fmt: skip
        for name in (name for word, names in given.items() if spec.get(word) for name in names):
            setattr(config, name, shape[name])
        return config
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return AutoConfig.for_model(
        spec.get("architecture") or "qwen3",
        **shape,
        **ids,
        vocab_size=len(tokenizer),
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        initializer_range=0.1,
    )


def main(argv: list[str]) -> int:
    """Write model and tokenizer to `<stage>/result`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    folder = Path(spec["stage"])
    folder.mkdir(parents=True, exist_ok=True)
    event(folder, 0, 2, "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(spec["like"]) if spec.get("like") else make_tokenizer(spec)
    event(folder, 1, 2, "weights")
    torch.manual_seed(spec["seed"])
    model = AutoModelForCausalLM.from_config(make_config(spec, tokenizer))
    place = folder / "result"
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    count = sum(parameter.numel() for parameter in model.parameters())
    result = {"kind": "model", "path": str(place), "metrics": {"parameters": count, "vocab": len(tokenizer)}}
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    event(folder, 2, 2, "saved")
    print(f"{count:,} parameters, {len(tokenizer):,} tokens: {place}")
    return 0


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: a module of ours must not stand in for one of the engine's
    sys.exit(main(sys.argv[1:]))
