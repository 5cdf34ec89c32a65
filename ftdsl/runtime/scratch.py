"""`scratch.py SPEC.json`: a small model with random weights, and a tokenizer trained on the recipe's data.

Byte-level BPE (Sennrich et al. 2016; bytes as in GPT-2), so that every text can be written. Weights start wide
(initializer_range 0.1) and embeddings are not tied: at 0.02 and tied, a toy of this size hardly learns. A `toy` of a smoke
run replaces a real model: its architecture, and the special tokens, begin and end of its tokenizer and chat format.
"""

from __future__ import annotations

import glob
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if not __package__:  # run by path: its folder becomes the package `runtime`, and shadows none of the engine's modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = Path(__file__).resolve().parent.name
    __import__(__package__)

from . import toy
from .report import Log, StageError, carried_out, mark, save_result

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>")
CONTEXT = 4096
MOST = 4 << 20
"""Bytes of each file that are read for a toy's tokenizer."""


def texts_of(path: str, most: int | None = None) -> Iterator[str]:
    """Every text in files of rows, whatever their shape: JSON, JSON Lines, plain lines; folders and patterns too. Others
    (Parquet) have none.
    """
    given = Path(path)
    files = sorted(given.iterdir()) if given.is_dir() else [Path(name) for name in sorted(glob.glob(path))] or [given]
    for file in files:
        if file.is_file() and file.suffix != ".parquet":
            with file.open("rb") as handle:
                yield from _texts(handle.read(most).decode("utf-8-sig", "ignore"))


def _texts(text: str) -> Iterator[str]:
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


def make_tokenizer(spec: dict[str, Any]) -> Any:
    """A fast tokenizer of at most `vocab` tokens, and as many special ones as it needs."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    likeness = Likeness(spec) if spec.get("toy") else None
    special = likeness.special if likeness else list(SPECIAL)
    ends = likeness.ends if likeness else {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=(spec.get("vocab") or 2048) + (len(special) - len(SPECIAL) if likeness else 0),
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = (text for path in spec["texts"] for text in texts_of(path, MOST if likeness else None))
    tokenizer.train_from_iterator(texts, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=CONTEXT, **ends)
    made.chat_template = likeness.chat_template if likeness else None
    return made


class Likeness:
    """What a toy's tokenizer takes from the real one: from the model's own files where they are at hand (`place`), else the
    marks that the chat format of its family writes (`templates`).
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self.ends = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
        self.special = ["<|endoftext|>"]
        self.chat_template: str | None = None
        real = _real_tokenizer(spec.get("place"))
        if real is None:
            for format in spec.get("formats") or ():
                self._of_format(format)
            self._of_templates(() if "formats" in spec else spec.get("templates") or ())
        else:
            self._of_tokenizer(real)
        self.special = list(dict.fromkeys([*self.special, *self.ends.values()]))

    def _of_tokenizer(self, real: Any) -> None:
        named = {name: getattr(real, name, None) for name in ("bos_token", "eos_token", "pad_token")}
        self.ends |= {name: str(token) for name, token in named.items() if token}
        added = [str(token) for token in real.added_tokens_decoder.values()]
        self.special += [token for token in [*added, *real.all_special_tokens] if token][:1024]
        self.chat_template = real.chat_template if isinstance(real.chat_template, str) else None

    def _of_format(self, format: dict[str, Any]) -> None:
        """A chat format of the catalogue (runtime/tuning/formats.py has its fields)."""
        from .chat import MARKS

        slots = [slot for part in ("prefix", "system", "user", "assistant", "tool") for slot in format.get(part, ())]
        for slot in slots:
            self.special += MARKS.findall(slot) if isinstance(slot, str) else [slot["token"]] if "token" in slot else []
        thoughts = [mark.strip() for mark in format.get("thought", ("<think>", "</think>"))]
        self.special += [*format.get("stop", ()), *thoughts]
        if {"special": "bos_token"} in slots:
            self.ends["bos_token"] = "<s>"
        if format.get("replace_eos") and format.get("stop"):
            self.ends["eos_token"] = format["stop"][0]

    def _of_templates(self, names: Any) -> None:
        if not names:
            return
        from llamafactory.data.template import TEMPLATES

        from .chat import marks_of

        for template in filter(None, map(TEMPLATES.get, names)):
            self.special += marks_of(template)
            self.special += [
                word.strip() for word in (*template.thought_words, *template.tool_call_words) if word.strip()
            ]
            if any(isinstance(slot, set) and "bos_token" in slot for slot in template.format_prefix.slots):
                self.ends["bos_token"] = "<s>"
            if template.replace_eos and template.stop_words:
                self.ends["eos_token"] = template.stop_words[0]


def _real_tokenizer(folder: str | None) -> Any:
    """The tokenizer in a model's folder; None where there is none that can be read."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder) if folder else None
    except Exception:  # a folder of weights alone, or a tokenizer with code of its own
        return None


def make_config(spec: dict[str, Any], tokenizer: Any) -> Any:
    """The shape of the model: a toy of an architecture, `like` another, or as the spec says."""
    from transformers import AutoConfig

    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    if spec.get("toy"):
        return toy.config(spec["architecture"], spec.get("place"), ids, len(tokenizer))
    hidden = spec.get("hidden") or 64
    heads = spec.get("heads") or (4 if hidden % 4 == 0 else 1)
    if hidden % heads:
        raise StageError(f"hidden = {hidden} cannot be split into {heads} heads", "model")
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
    return AutoConfig.for_model(
        spec.get("architecture") or "qwen3",
        **shape,
        **ids,
        vocab_size=len(tokenizer),
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        initializer_range=0.1,
    )


def make(spec: dict[str, Any], log: Log) -> int:
    """Write model and tokenizer to `<stage>/result`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    log.event("progress", done=0, total=2, what="tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(spec["like"]) if spec.get("like") else make_tokenizer(spec)
    log.event("progress", done=1, total=2, what="weights")
    torch.manual_seed(spec["seed"])
    result, smoke = Path(spec["stage"]) / "result", bool(spec.get("smoke"))
    config = make_config(spec, tokenizer)
    if smoke:
        config.ftdsl_smoke = True  # goes with every model that is made of this one
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(result)
    tokenizer.save_pretrained(result)
    if smoke:
        mark(result)
    count = sum(parameter.numel() for parameter in model.parameters())
    metrics = {"parameters": count, "vocab": len(tokenizer)}
    save_result(spec["stage"], {"kind": "model", "path": str(result), "metrics": metrics}, smoke=smoke)
    log.event("progress", done=2, total=2, what="saved")
    print(f"{count:,} parameters, {len(tokenizer):,} tokens: {result}")
    return 0


def main(argv: list[str]) -> int:
    """The exit status."""
    spec = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    Path(spec["stage"]).mkdir(parents=True, exist_ok=True)
    return carried_out(lambda log: make(spec, log), Log(spec["stage"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
