"""Run by test_agreement.py under the engine's Python: cases.json -> verdicts.json, [when it reads arguments, when it sets up].

The set-up goes as far as it can without a model: the template, the data sets up to their files, attention, quantisation.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import llamafactory.data.loader as loader
import llamafactory.hparams.parser as parser
import llamafactory.model.model_utils.quantization as quantization
from llamafactory.data.template import get_template_and_fix_tokenizer
from llamafactory.hparams import get_infer_args, get_train_args
from llamafactory.model.model_utils.attention import configure_attn_implementation
from transformers import PretrainedConfig

REFUSALS = (ValueError, NotImplementedError, RuntimeError, AssertionError)


class ReachedError(Exception):
    """As far as it goes."""


def _reached(*_: Any, **__: Any) -> NoReturn:
    raise ReachedError


parser.check_version = quantization.check_version = lambda *a, **k: None  # missing packages are another matter (FT903)
parser.is_torch_bf16_gpu_available = lambda: True  # and so are cards
loader.load_dataset = _reached


def steps(args: tuple[Any, ...], beside: dict[str, Any]) -> Iterator[Callable[[], Any]]:
    """What is done between the arguments and the weights."""
    model, data, finetuning = args[0], args[1], args[-2]
    training = args[2] if len(args) == 5 else None
    config = PretrainedConfig()
    config.model_type = beside["model_type"]
    if beside["quantised"]:
        config.quantization_config = {"quant_method": "gptq", "bits": 4}
    tokenizer = SimpleNamespace(chat_template=None)
    yield lambda: get_template_and_fix_tokenizer(tokenizer, data)
    if data.dataset_dir != "data" and training is not None:
        stage = "rm" if finetuning.stage == "dpo" else finetuning.stage
        yield lambda: loader._get_merged_dataset(data.dataset, model, data, training, stage, return_dict=True)
    yield lambda: configure_attn_implementation(config, model)
    yield lambda: quantization.configure_quantization(
        config, tokenizer, model, bool(training and training.do_train), {}
    )


def refused(step: Callable[[], Any]) -> str:
    """What LLaMA-Factory itself says; what the stand-ins are too poor for is no verdict."""
    try:
        step()
    except Exception as error:
        last = error.__traceback__
        while last and last.tb_next:
            last = last.tb_next
        if last and "llamafactory" in last.tb_frame.f_code.co_filename and isinstance(error, REFUSALS):
            return message(error)
    return ""


def message(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def verdict(kind: str, given: dict[str, Any], beside: dict[str, Any]) -> list[str]:
    try:
        args = (get_train_args if kind == "train" else get_infer_args)(given)
    except BaseException as error:
        return [message(error), ""]
    return ["", next(filter(None, map(refused, steps(args, beside))), "")]


cases = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
found = {name: verdict(kind, given, beside) for name, kind, given, beside in cases}
Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")
