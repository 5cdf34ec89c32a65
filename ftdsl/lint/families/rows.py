"""The first rows of data sets: whether LLaMA-Factory can read them, and what it leaves out without an error."""

from __future__ import annotations

from collections.abc import Iterator

from ftdsl.lint.columns import lacking
from ftdsl.lint.config import Config, Dataset, Setting
from ftdsl.lint.rule import EVERY, Findings, error, info, rule, warning
from ftdsl.recipe.rows import Look, fewer_than_a_pack, summary


def _looks(config: Config) -> Iterator[tuple[Setting, Dataset, Look]]:
    for dataset in config.datasets:
        for look in dataset.looks:
            yield dataset.setting or config.at("dataset"), dataset, look


def _fits(config: Config, dataset: Dataset) -> bool:
    """Whether the columns and the kind of rows are right: else it is FT502, once, not in every row."""
    entry = dict(dataset.entry or {})
    columns, pairs = entry.get("columns"), config.stage in ("rm", "dpo")
    needed = "messages" if entry.get("formatting", "alpaca") != "alpaca" else "prompt"
    if isinstance(columns, dict) and needed not in columns:  # FT515
        return False
    return pairs == bool(entry.get("ranking")) and not lacking(dataset, entry, config.stage)


@rule("FT527")
def unreadable_data(config: Config) -> Findings:
    """What it does: reads the first megabyte of each local data file: whether it is UTF-8, has rows, and is what its name says.
    Why it matters: the engine finds out after it has loaded the tokenizer, and names neither file nor line.
    Example:
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.jsonl"}}
        # file: support.jsonl

    Use instead:
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.jsonl"}}
        # file: support.jsonl
        {"instruction": "Where is my order?", "input": "", "output": "On its way."}
    Applies to: LLaMA-Factory
    Source: llamafactory/data/loader.py:77-91 (0.9.5)
    """
    for at, dataset, look in _looks(config):
        if problems := look.of("file"):
            yield error(at, f"`{dataset.name}`: {summary(look, problems, look.path.name)}", help="fix the file")


@rule("FT511")
def rows_do_not_fit(config: Config) -> Findings:
    """What it does: checks the first rows of each local data file: JSON, types of columns, speakers, calls of tools.
    Why it matters: one such row stops the run, after the model is loaded.
    Example:
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.jsonl"}}
        # file: support.jsonl
        {"instruction": "Where is my order?", "input": "", "output": "On its way."}
        {"instruction": "And the bill?", "input": "", "output
    Use instead:
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.jsonl"}}
        # file: support.jsonl
        {"instruction": "Where is my order?", "input": "", "output": "On its way."}
        {"instruction": "And the bill?", "input": "", "output": "Attached."}
    Applies to: LLaMA-Factory
    Source: llamafactory/data/converter.py (0.9.5)
    """
    for at, dataset, look in _looks(config):
        problems = [problem for problem in look.stops if problem.kind != "file"]
        if problems and (_fits(config, dataset) or problems[0].kind == "json"):
            help = "fix the row; a `data` stage of a recipe can leave such rows out"
            yield error(at, f"`{dataset.name}`: {summary(look, problems, look.path.name)}", help=help)


@rule("FT525")
def rows_left_out(config: Config) -> Findings:
    """What it does: finds rows that the engine leaves out, or trains on although their answer is empty, in the first rows of
        each local data file; and data sets of which `max_samples` takes a part.
    Why it matters: it says so nowhere, or once a row in the log of one process; the model sees less than was meant.
    Example:
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.jsonl"}}
        # file: support.jsonl
        {"instruction": "Where is my order?", "input": "", "output": ""}
        ---
        dataset: chats
        # file: dataset_info.json
        {"chats": {"file_name": "chats.jsonl", "formatting": "sharegpt"}}
        # file: chats.jsonl
        {"conversations": [{"from": "gpt", "value": "Hello."}, {"from": "human", "value": "Hi."}]}
        ---
        dataset: support
        max_samples: 1
        # file: dataset_info.json
        {"support": {"file_name": "support.jsonl"}}
        # file: support.jsonl
        {"instruction": "Where is my order?", "input": "", "output": "On its way."}
        {"instruction": "And the bill?", "input": "", "output": "Attached."}
    Use instead:
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.jsonl"}}
        # file: support.jsonl
        {"instruction": "Where is my order?", "input": "", "output": "On its way."}
    Applies to: LLaMA-Factory
    Source: llamafactory/data/converter.py:137-159, data/loader.py:163 (0.9.5)
    """
    for at, dataset, look in _looks(config):
        if look.problems and not look.stops and _fits(config, dataset):
            empty = look.problems[0].kind == "empty"
            does = "the engine trains on such rows" if empty else "the engine leaves such rows out"
            text = f"`{dataset.name}`: {summary(look, look.problems, look.path.name)}; {does}"
            yield warning(
                at, text, help="fix the rows; a `data` stage of a recipe leaves such rows out and counts them"
            )
    most = config.number("max_samples")
    if most is None or config.form == "recipe":
        return
    for dataset in config.datasets:
        whole = bool(dataset.looks) and all(look.is_whole for look in dataset.looks)
        rows = sum(look.rows for look in dataset.looks)
        if rows > most and dataset.part == "train":
            of = f"{rows:,}" if whole else f"more than {rows:,}"
            text = f"{most:g} of the {of} rows of `{dataset.name}` are used"
            yield info(config.at("max_samples"), text, help="drop it to train on all rows")


@rule("FT526")
def less_than_a_pack(config: Config) -> Findings:
    """What it does: finds packed pre-training data that is shorter than one pack of `cutoff_len` tokens.
    Why it matters: the engine drops the part of the text that fills no whole pack, and stops with "Cannot find valid samples".
    Example:
        stage: pt
        cutoff_len: 2048
        dataset: notes
        # file: dataset_info.json
        {"notes": {"file_name": "notes.jsonl", "columns": {"prompt": "text"}}}
        # file: notes.jsonl
        {"text": "Six short notes."}
    Use instead:
        stage: pt
        cutoff_len: 2048
        packing: false
        dataset: notes
        # file: dataset_info.json
        {"notes": {"file_name": "notes.jsonl", "columns": {"prompt": "text"}}}
        # file: notes.jsonl
        {"text": "Six short notes."}
    Applies to: LLaMA-Factory
    Source: llamafactory/data/processor/pretrain.py:30-52 (0.9.5)
    """
    limit = config.number("cutoff_len")
    sets = [dataset for dataset in config.datasets if dataset.part == "train"]
    packs = config.stage == "pt" and config.value("packing") is not False
    if packs and limit and config.form != "recipe" and sets and all(dataset.looks for dataset in sets):
        looks = [look for dataset in sets for look in dataset.looks]
        if fewer_than_a_pack(looks, limit):
            rows = sum(look.rows for look in looks)
            text = f"all {rows:,} rows together are shorter than one pack of {limit:g} tokens: there is nothing to train on"
            yield error(
                config.first("cutoff_len", "dataset"), text, help="lower `cutoff_len`, or write `packing: false`"
            )


@rule("FT528")
def holds_out_all_rows(config: Config) -> Findings:
    """What it does: holds `val_size` as a number of rows against the rows of local data files.
    Why it matters: the split of so few rows fails once the tokenizer is loaded; `val_size: 1` holds out one row.
    Example:
        val_size: 100
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.jsonl"}}
        # file: support.jsonl
        {"instruction": "Where is my order?", "input": "", "output": "On its way."}
        {"instruction": "And the bill?", "input": "", "output": "Attached."}
    Use instead:
        val_size: 0.5
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.jsonl"}}
        # file: support.jsonl
        {"instruction": "Where is my order?", "input": "", "output": "On its way."}
        {"instruction": "And the bill?", "input": "", "output": "Attached."}
    Applies to: LLaMA-Factory
    Source: llamafactory/data/data_utils.py, split_dataset: train_test_split (0.9.5)
    """
    held = config.number("val_size")
    sets = [dataset for dataset in config.datasets if dataset.part == "train"]
    if held is None or held < 1 or config.form == "recipe" or not sets or config.on("streaming"):
        return
    if not all(dataset.looks and all(look.is_whole for look in dataset.looks) for dataset in sets):
        return
    rows = sum(_taken(config, dataset) for dataset in sets)
    if rows <= held and rows:
        yield error(
            config.at("val_size"), f"cannot hold out {held:g} of {rows:,} rows", help="write a share: `val_size: 0.05`"
        )


def _taken(config: Config, dataset: Dataset) -> int:
    """Rows the engine takes of a data set: all, `num_samples` of its entry, or at most `max_samples`."""
    number = (dataset.entry or {}).get("num_samples")
    rows = number if isinstance(number, int) else sum(look.rows for look in dataset.looks)
    return min(rows, int(most)) if (most := config.number("max_samples")) else rows


@rule("FT123", EVERY)
def stream_read_again(config: Config) -> Findings:
    """What it does: finds a streamed run that resumes from a checkpoint.
    Why it matters: a stream cannot be entered in the middle: transformers reads, tokenises and throws away every batch
        of the steps before, on all ranks, which looks like a hang and may take as long as the training did.
    Example:
        streaming: true
        max_steps: 60000
        overwrite_output_dir: false
        resume_from_checkpoint: saves/x/checkpoint-25000
    Use instead:
        streaming: true
        max_steps: 60000
        overwrite_output_dir: false
        resume_from_checkpoint: saves/x/checkpoint-25000
        ignore_data_skip: true
    Applies to: transformers
    Source: transformers/trainer.py, skip_first_batches (5.6.0); LLaMA-Factory#2146
    """
    if config.on("streaming") and config.is_explicit("resume_from_checkpoint") and not config.on("ignore_data_skip"):
        yield warning(
            config.at("resume_from_checkpoint"),
            "all batches of the steps before are read again, and thrown away: a stream has no middle to start from",
            help="wait for it, or write `ignore_data_skip: true`: rows are then taken from the stream's start again",
        )
