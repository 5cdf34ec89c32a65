"""`python trl_parity_probe.py SPEC.json`, under LLaMA-Factory's Python: the ids and labels that it gives rows, by template.

SPEC: model (a folder with a tokenizer), templates, rows (by stage: sft, dpo, kto, pt), cutoff_len, options by name.
Prints one JSON document: case -> stage -> rows of columns.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))


def encoded(stage: str, template: str, rows: list[dict[str, Any]], options: dict[str, Any]) -> dict[str, list[Any]]:
    from llamafactory.data.mm_plugin import get_mm_plugin
    from llamafactory.data.processor import (
        FeedbackDatasetProcessor,
        PairwiseDatasetProcessor,
        PretrainDatasetProcessor,
        SupervisedDatasetProcessor,
    )
    from llamafactory.data.template import TEMPLATES, get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(spec["model"], padding_side="right")
    own = {name: value for name, value in options.items() if name != "packing"}
    arguments = DataArguments(template=template, cutoff_len=spec["cutoff_len"], **own)
    arguments.packing = options.get(
        "packing"
    )  # as the engine sets it for `pt`; a `packing` that is written makes blocks shorter
    pristine = TEMPLATES[template]
    TEMPLATES[template] = replace(pristine, mm_plugin=get_mm_plugin(name="base"))  # the engine writes options into it
    format = get_template_and_fix_tokenizer(tokenizer, arguments)
    TEMPLATES[template] = pristine
    kinds = {"sft": SupervisedDatasetProcessor, "dpo": PairwiseDatasetProcessor, "kto": FeedbackDatasetProcessor,
             "pt": PretrainDatasetProcessor}  # fmt: skip
    processor = kinds[stage](template=format, tokenizer=tokenizer, processor=None, data_args=arguments)
    columns = {f"_{name}": [row.get(name) for row in rows] for name in ("prompt", "response", "system", "tools", "images",
                                                                        "videos", "audios")}  # fmt: skip
    columns["_system"] = [text or "" for text in columns["_system"]]
    columns["_tools"] = [text or "" for text in columns["_tools"]]
    return {name: list(values) for name, values in processor.preprocess_dataset(columns).items()}


found: dict[str, Any] = {}
for case in spec["cases"]:
    try:
        found[case["name"]] = encoded(case["stage"], case["template"], spec["rows"][case["stage"]], case["options"])
    except Exception as error:
        found[case["name"]] = {"error": f"{type(error).__name__}: {error}"}
print("\n" + json.dumps(found))
