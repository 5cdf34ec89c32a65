"""`step_rows.py STAGE.json STEP…`, in the run folder, by the engine's Python: the rows that optimizer steps of a training read.

Prints one JSON document: `{"files": [...], "steps": {"47": [[file, row], …]}}`; `row` counts from 0 in the file, or the data
set of a hub. The engine prepares its rows as it did for the training; a number that each row carries says which they were.
Nothing is trained and no model is loaded. Source: LLaMA-Factory 0.9.5, data/loader.py and data/processor.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run by path
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = Path(__file__).resolve().parent.name
    __import__(__package__)

from .batches import rows_of_ramp, rows_of_step
from .ramp import Phase
from .stage import Stage, read

FILE, ROW = "_ft_file", "_ft_row"
NOT_NEEDED = (
    "deepspeed", "fsdp", "fsdp_config", "resume_from_checkpoint", "tokenized_path", "bf16", "fp16", "pure_bf16", "tf32",
    "report_to", "run_name", "torch_compile", "use_unsloth", "enable_liger_kernel", "flash_attn", "quantization_bit",
    "quantization_method", "adapter_name_or_path", "ref_model", "reward_model", "save_strategy", "eval_strategy", "eval_steps",
    "eval_dataset", "load_best_model_at_end", "optim", "shift_attn", "use_galore", "use_apollo", "use_badam", "packed",
    "metric_for_best_model", "push_to_hub", "use_kt", "fp8", "enable_fsdp_offload",
)  # fmt: skip
"""Parameters that change neither rows nor their order, and may ask for what is not here."""
_SHUFFLES = ("group_by_length", "train_sampling_strategy", "streaming", "dispatch_batches")


class UnknownOrderError(Exception):
    """The order of rows cannot be told; a sentence."""


def config_of(stage: Stage) -> dict[str, Any]:
    """The engine's parameters. Raises: UnknownOrderError."""
    import yaml

    config: dict[str, Any] = yaml.safe_load(Path(stage.parts[0].config).read_text(encoding="utf-8"))
    if config.get("stage") not in ("pt", "sft", "rm", "dpo", "kto"):
        raise UnknownOrderError(f"a stage `{config.get('stage')}` makes its rows while it trains")
    for name in _SHUFFLES:
        if config.get(name) and config[name] != "random":
            raise UnknownOrderError(f"with `{name}` the order of rows is not kept")
    if not config.get("dataset"):
        raise UnknownOrderError("only tokens were kept, not the rows they are of")
    return config


class Prepared:
    """The engine's rows: `rows` as they are trained on, `raw` before they were, with the file and number of each."""

    def __init__(self, config: dict[str, Any]) -> None:
        from llamafactory.data import get_template_and_fix_tokenizer, loader
        from llamafactory.hparams import get_train_args
        from llamafactory.model import load_tokenizer

        self.files: list[str] = []
        self.raw: Any = None
        self._watch(loader)
        kept = {name: value for name, value in config.items() if name not in NOT_NEEDED}
        with tempfile.TemporaryDirectory() as folder:
            kept |= {"output_dir": folder, "use_cpu": True, "report_to": "none", "overwrite_output_dir": True}
            model, self.data, training, finetuning, _ = get_train_args(kept)
            loaded = load_tokenizer(model)
            self.tokenizer = loaded["tokenizer"]
            template = get_template_and_fix_tokenizer(self.tokenizer, self.data)
            self.stage = finetuning.stage if finetuning.stage != "dpo" else "rm"
            made = loader.get_dataset(template, model, self.data, training, self.stage, **loaded)
        self.rows = made["train_dataset"]
        self.shuffled = not getattr(finetuning, "disable_shuffling", False)
        self.seed = training.data_seed if training.data_seed is not None else training.seed
        self.micro, self.accumulate = training.per_device_train_batch_size, training.gradient_accumulation_steps
        self.drop_last = training.dataloader_drop_last
        self.by_steps, self.epochs = training.max_steps > 0 or self.drop_last, training.num_train_epochs
        self._processor = loader._get_dataset_processor(
            self.data, self.stage, template, self.tokenizer, loaded["processor"]
        )

    def _watch(self, loader: Any) -> None:
        """Let every row carry where it is from, up to where it becomes tokens."""
        load, align, preprocess = loader.load_dataset, loader.align_dataset, loader._get_preprocessed_dataset

        def loaded(*given: Any, **named: Any) -> Any:
            rows = load(*given, **named)
            return rows.add_column(ROW, list(range(len(rows))))

        def aligned(rows: Any, attributes: Any, *given: Any) -> Any:
            if ROW not in rows.column_names:
                raise UnknownOrderError("only rows of files and of the hub can be followed")
            file = str(attributes.dataset_name)
            if file not in self.files:
                self.files.append(file)
            numbers = rows[ROW]
            made = align(rows.remove_columns(ROW), attributes, *given)
            return made.add_column(ROW, list(numbers)).add_column(FILE, [self.files.index(file)] * len(made))

        def preprocessed(rows: Any, *given: Any, **named: Any) -> Any:
            if rows is None:
                return None
            if not named.get("is_eval"):
                self.raw = rows
            return preprocess(rows.remove_columns([ROW, FILE]), *given, **named)

        loader.load_dataset, loader.align_dataset, loader._get_preprocessed_dataset = loaded, aligned, preprocessed

    def order(self, epoch: int) -> Sequence[int]:
        if not self.shuffled:
            return range(len(self.rows))
        import torch

        generator = torch.Generator().manual_seed(self.seed + epoch)
        return torch.randperm(len(self.rows), generator=generator).tolist()  # type: ignore[no-any-return]

    def sources(self, wanted: Sequence[int]) -> dict[int, list[int]]:
        """Trained row -> the raw rows it was made of."""
        if self.data.packing and self.stage in ("pt", "sft"):
            return self._packed(set(wanted))
        if len(self.rows) == len(self.raw):
            return {row: [row] for row in wanted}
        raw_rows, at, last = {}, 0, max(wanted, default=0)
        for raw in range(len(self.raw)):  # the engine dropped some
            if self._alone(raw):
                raw_rows[at] = [raw]
                at += 1
            if at > last:
                break
        return {row: raw_rows[row] for row in wanted if row in raw_rows}

    def _alone(self, raw: int, name: str = "") -> Any:
        """What the engine makes of one row; empty where it drops it."""
        made = self._single.preprocess_dataset(self.raw[raw : raw + 1])
        columns = [value for key, value in made.items() if key == "input_ids" or key.endswith("input_ids")]
        return columns[0] if columns and columns[0] else []

    @property
    def _single(self) -> Any:
        """The processor that packs nothing."""
        if self.stage == "sft" and self.data.packing:
            from llamafactory.data.processor import SupervisedDatasetProcessor

            given = {
                name: getattr(self._processor, name) for name in ("template", "tokenizer", "processor", "data_args")
            }
            return SupervisedDatasetProcessor(**given)
        return self._processor

    def _batches(self) -> Iterator[tuple[int, int]]:
        """Raw rows that were packed together: those of a process, in portions."""
        many, size = int(self.data.preprocessing_num_workers or 1), int(self.data.preprocessing_batch_size)
        total = len(self.raw)
        many = min(many, total) or 1
        each, more = divmod(total, many)
        start = 0
        for process in range(many):
            end = start + each + (process < more)
            for at in range(start, end, size):
                yield at, min(end, at + size)
            start = end

    def _packed(self, wanted: set[int]) -> dict[int, list[int]]:
        sources: dict[int, list[int]] = {}
        first = 0
        for start, end in self._batches():
            made = self._processor.preprocess_dataset(self.raw[start:end])
            rows = made["input_ids"]
            if own := [row for row in wanted if first <= row < first + len(rows)]:
                if self.stage == "pt":
                    self._blocks(start, end, {row: row - first for row in own}, sources)
                else:
                    self._knapsacks(start, end, {row: rows[row - first] for row in own}, sources)
            first += len(rows)
        return sources

    def _blocks(self, start: int, end: int, own: dict[int, int], sources: dict[int, list[int]]) -> None:
        """Text in one stream, cut into blocks of equal length."""
        eos = "<|end_of_text|>" if self.data.template == "llama3" else self.tokenizer.eos_token
        texts = [messages[0]["content"] + eos for messages in self.raw[start:end]["_prompt"]]
        ends, total = [], 0
        for tokens in self.tokenizer(texts, add_special_tokens=False)["input_ids"]:
            total += len(tokens)
            ends.append(total)
        for row, block in own.items():
            low, high = block * self.data.cutoff_len, (block + 1) * self.data.cutoff_len
            begins = [0, *ends[:-1]]
            sources[row] = [start + at for at, (own_start, own_end) in enumerate(zip(begins, ends, strict=True))
                          if own_start < high and own_end > low]  # fmt: skip

    def _knapsacks(self, start: int, end: int, own: dict[int, list[int]], sources: dict[int, list[int]]) -> None:
        """Whole rows one behind the other, then padding."""
        by_tokens: dict[tuple[int, ...], list[int]] = {}
        for raw in range(start, end):
            for tokens in self._alone(raw):
                by_tokens.setdefault(tuple(tokens), []).append(raw)
        lengths = sorted({len(tokens) for tokens in by_tokens}, reverse=True)
        for row, packed in own.items():
            sources[row] = self._parts(packed, by_tokens, lengths)

    def _parts(self, packed: list[int], by_tokens: dict[tuple[int, ...], list[int]], lengths: list[int]) -> list[int]:
        parts: list[int] = []
        at = 0
        while at < len(packed):
            length = next((length for length in lengths if tuple(packed[at : at + length]) in by_tokens), 0)
            if not length:
                break
            parts += by_tokens[tuple(packed[at : at + length])]
            at += length
        return parts


def main(argv: list[str]) -> int:
    """0, and the document; 1, and a sentence on stderr."""
    stage, steps = read(argv[0]), [int(text) for text in argv[1:]]
    if Path("runtime").is_dir() and stage.extend:
        from . import extend

        extend.callbacks(extend.read(stage.extend))  # a template of the recipe's own
    out = os.dup(1)
    os.dup2(2, 1)  # the engine prints an example
    try:
        prepared = Prepared(config_of(stage))
        read_rows = {step: _rows_of(prepared, stage, step) for step in steps}
        sources = prepared.sources(sorted({row for rows in read_rows.values() for row in rows}))
    except (UnknownOrderError, ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        sys.stdout.flush()
        os.dup2(out, 1)
    document = {
        "files": prepared.files,
        "steps": {
            str(step): [
                [prepared.raw[raw][FILE], prepared.raw[raw][ROW]]
                for raw in dict.fromkeys(raw for row in rows for raw in sources.get(row, ()))
            ]
            for step, rows in read_rows.items()
        },
    }
    print(json.dumps(document))
    return 0


def _rows_of(prepared: Prepared, stage: Stage, step: int) -> list[int]:
    rows = len(prepared.rows)
    if stage.ramp:
        phases = [Phase(**phase) for phase in stage.ramp]
        total = 0 if prepared.by_steps else math.ceil(rows * prepared.epochs)
        return rows_of_ramp(step, rows, prepared.order, phases, stage.world, total)
    return rows_of_step(
        step, rows, prepared.order, micro=prepared.micro, accumulate=prepared.accumulate, world=stage.world,
        drop_last=prepared.drop_last,
    )  # fmt: skip


if __name__ == "__main__":
    os.environ |= {"DISABLE_VERSION_CHECK": "1", "CUDA_VISIBLE_DEVICES": "", "FORCE_TORCHRUN": "0"}
    sys.exit(main(sys.argv[1:]))
