"""Data sets: files, formats, mixing, lengths."""

from __future__ import annotations

from pathlib import PurePosixPath

from ftdsl.diagnostics.suggest import closest
from ftdsl.lint.columns import lacking, suggested
from ftdsl.lint.config import Config, Dataset
from ftdsl.lint.edits import drop, put
from ftdsl.lint.rule import Findings, error, info, rule, warning
from ftdsl.recipe.rows import far_too_long


@rule("FT113")
def stream_without_end(config: Config) -> Findings:
    """What it does: finds streams without `max_steps`, with `max_samples`, or saved with `tokenized_path`.
    Why it matters: the length of a stream is unknown: the run stops while parsing its arguments, or when the
        rows should be saved.
    Example:
        streaming: true
        ---
        streaming: true
        max_steps: 1000
        max_samples: 5000
        ---
        streaming: true
        max_steps: 1000
        tokenized_path: saves/tokens
    Use instead:
        streaming: true
        max_steps: 1000
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:472, data_args.py:180, data/loader.py:299 (0.9.5); LLaMA-Factory#868, #7375
    """
    if not config.on("streaming"):
        return
    at = config.at("streaming")
    if (config.number("max_steps") or -1) <= 0 and config.kind == "train":
        yield error(
            at,
            "a stream has no known length: the run needs a number of steps",
            help="write `max_steps: 1000`" if config.form != "recipe" else "write `duration = 1000 steps`",
        )
    if config.has("max_samples"):
        other = config.at("max_samples")
        yield error(
            other,
            f"`{other.word}` does not apply to a stream",
            also=((at, "streaming is on"),),
            help=f"drop it; `{config.word('max_steps')}` limits the run",
            fix=drop(other),
        )
    if config.has("tokenized_path"):
        other = config.at("tokenized_path")
        yield error(
            other, "a stream cannot be tokenised in advance", also=((at, "streaming is on"),), help="disable streaming"
        )


@rule("FT501")
def file_not_found(config: Config) -> Findings:
    """What it does: looks up each data set in dataset_info.json, and its file.
    Why it matters: LLaMA-Factory does so only after the tokenizer is loaded: a typo costs a download.
    Example:
        dataset: suport
        # file: dataset_info.json
        {"support": {"file_name": "support.json"}}
    Use instead:
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.json"}}
    Applies to: LLaMA-Factory
    Source: llamafactory/data/parser.py:126, data/loader.py:82-89 (0.9.5)
    """
    for dataset in config.datasets:
        at = dataset.setting or config.at("dataset")
        if dataset.entry is None and dataset.known:
            guess = closest(dataset.name, dataset.known)
            label = f"did you mean `{guess}`?" if guess else ""
            fix = put(at, at.text.replace(dataset.name, guess), safe=False) if guess and at.span else None
            yield error(
                at, f"dataset_info.json has no `{dataset.name}`", label=label, help=entry_help(dataset), fix=fix
            )
        elif dataset.exists is False and PurePosixPath(str((dataset.entry or {}).get("file_name"))).is_absolute():
            yield warning(at, f"`{dataset.file}` is not on this machine")
        elif dataset.exists is False:
            where = "`dataset_dir`" if config.form != "recipe" else "its dataset_info.json"
            yield error(at, f"there is no file `{dataset.file}`", help=f"paths are relative to {where}")


def entry_help(dataset: Dataset) -> str:
    """A path is no name: many write one, and the engine looks it up among the entries."""
    written = PurePosixPath(dataset.name.replace("\\", "/"))
    if written.suffix in (".json", ".jsonl", ".csv", ".parquet", ".arrow", ".txt"):
        entry = f'"{written.stem}": {{"file_name": "{written if written.is_absolute() else written.name}"}}'
        return (
            "`dataset` takes names of entries, no paths: "
            f"add one to dataset_info.json, `{entry}`, and write `dataset: {written.stem}`"
        )
    return "it lists " + ", ".join(list(dataset.known)[:6])


def entries(config: Config) -> list[tuple[Dataset, dict[str, object]]]:
    return [(dataset, dict(dataset.entry)) for dataset in config.datasets if dataset.entry is not None]


@rule("FT502")
def wrong_data_for_stage(config: Config) -> Findings:
    """What it does: checks the kind of rows against the stage: `rm` and `dpo` need pairs, the others take none; and the
        columns of the first row, where it can be read, against those the stage reads.
    Why it matters: the engine stops when it loads the rows.
    Example:
        stage: dpo
        learning_rate: 5e-6
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.json"}}
        ---
        dataset: pairs
        # file: dataset_info.json
        {"pairs": {
            "file_name": "pairs.json",
            "ranking": true,
            "columns": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}}}
        ---
        # with: columns=question answer
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.json"}}
    Use instead:
        stage: dpo
        learning_rate: 5e-6
        dataset: pairs
        # file: dataset_info.json
        {"pairs": {
            "file_name": "pairs.json",
            "ranking": true,
            "columns": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}}}
    Applies to: LLaMA-Factory
    Source: llamafactory/data/loader.py:178 (0.9.5), where dpo loads as rm; LLaMA-Factory#6189
    """
    pairs = config.stage in ("rm", "dpo")
    for dataset, entry in entries(config):
        at = dataset.setting or config.at("dataset")
        if pairs and not entry.get("ranking"):
            yield error(
                at,
                f"a {config.stage} stage needs pairs, and `{dataset.name}` is not marked as ranking data",
                help='write `"ranking": true` in its entry of dataset_info.json',
            )
        elif not pairs and entry.get("ranking"):
            yield error(
                at,
                f"`{dataset.name}` holds pairs, but a {config.stage} stage needs single answers",
                help="use it in a `dpo` or `rm` stage",
            )
        elif missing := lacking(dataset, entry, config.stage):
            have = ", ".join(f"`{name}`" for name in dataset.columns)
            yield error(
                at,
                f"rows of `{dataset.name}` have no {', '.join(f'`{name}`' for name in missing)}, which `{config.stage}` needs",
                label=f"they have {have}",
                help=f"write in its entry of dataset_info.json: `{suggested(dataset, entry, config.stage)}`",
            )


@rule("FT515")
def columns_incomplete(config: Config) -> Findings:
    """What it does: finds incomplete `columns` or `tags` in dataset_info.json.
    Why it matters: once one column is named, LLaMA-Factory drops the defaults of all others: with only
        `prompt` there are no answers, and rows are dropped or trained empty.
    Example:
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.json", "columns": {"prompt": "question"}}}
        ---
        dataset: chats
        # file: dataset_info.json
        {"chats": {
            "file_name": "chats.json",
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": {"user_tag": "user"}}}
    Use instead:
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.json", "columns": {"prompt": "question", "response": "output"}}}
    Applies to: LLaMA-Factory
    Source: llamafactory/data/parser.py:66-90, DatasetAttr.join (0.9.5)
    """
    for dataset, entry in entries(config):
        at = dataset.setting or config.at("dataset")
        chat = entry.get("formatting") in ("sharegpt", "openai")
        columns, tags = entry.get("columns"), entry.get("tags")
        needed = [] if not isinstance(columns, dict) else ["messages"] if chat else ["prompt"]
        if isinstance(columns, dict) and not chat and config.stage in ("sft", "kto"):
            needed.append("response")
        missing = [name for name in needed if not isinstance(columns, dict) or name not in columns]
        if missing:
            text = f"`columns` of `{dataset.name}` lacks {' and '.join(f'`{name}`' for name in missing)}, which makes them empty"
            yield warning(at, text, help="name every column: naming one removes all defaults")
        if isinstance(tags, dict) and chat:
            gone = [name for name in ("role_tag", "content_tag", "user_tag", "assistant_tag") if name not in tags]
            if gone:
                text = f"`tags` of `{dataset.name}` lacks {' and '.join(f'`{name}`' for name in gone)}, which makes them empty"
                yield warning(at, text, help="name every tag: naming one removes all defaults")


@rule("FT521")
def system_prompt_added(config: Config) -> Findings:
    """What it does: finds data sets with `"formatting": "openai"`.
    Why it matters: in each row without tools the engine replaces the template's system prompt by "detailed thinking
        off"; at inference the model never sees the prompt it was trained with.
    Example:
        dataset: chats
        # file: dataset_info.json
        {"chats": {"file_name": "chats.json", "formatting": "openai", "columns": {"messages": "messages"}}}
    Use instead:
        dataset: chats
        # file: dataset_info.json
        {"chats": {
            "file_name": "chats.json",
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
                "system_tag": "system"}}}
    Applies to: LLaMA-Factory
    Source: llamafactory/data/converter.py, OpenAIDatasetConverter (0.9.5)
    """
    for dataset, entry in entries(config):
        if entry.get("formatting") == "openai":
            text = f'`{dataset.name}` is read as `openai`: rows without tools get the system prompt "detailed thinking off"'
            help = 'write `"formatting": "sharegpt"` with `role_tag`, `content_tag`, `user_tag`, `assistant_tag`, `system_tag`'
            yield warning(dataset.setting or config.at("dataset"), text, help=help)


@rule("FT505")
def rows_are_cut(config: Config) -> Findings:
    """What it does: compares the measured row lengths with `cutoff_len`.
    Why it matters: longer rows are silently truncated at the end, where the answer is.
    Example:
        # with: p95=5200
        cutoff_len: 2048
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.json"}}
    Use instead:
        # with: p95=1500
        cutoff_len: 2048
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.json"}}
    Applies to: LLaMA-Factory
    Source: LLaMA-Factory#3995; llamafactory/data/processor/processor_utils.py, infer_seqlen (0.9.5)
    """
    limit = config.number("cutoff_len")
    for dataset in config.datasets:
        length = dataset.lengths.get(95)
        if length and limit and length > limit and not config.on("packing"):
            at = config.first("cutoff_len")
            near = -(-length // 1024) * 1024
            yield warning(
                at,
                f"more than 5 % of the rows of `{dataset.name}` exceed {limit:g} tokens and are truncated",
                label=f"95 % have at most {length}",
                help=f"write {near}, or drop long rows",
                fix=put(at, str(near), safe=False) if config.form != "recipe" else None,
            )
        elif not length and limit and not config.on("packing") and config.stage != "pt" and config.form != "recipe":
            looks = dataset.looks
            long, rows = sum(far_too_long(look, limit) for look in looks), sum(len(look.lengths) for look in looks)
            if long > 0.05 * rows:
                of = f"{long:,} of the first {rows:,} rows of `{dataset.name}`"
                text = f"{of} are much longer than {limit:g} tokens, and are cut"
                yield warning(
                    config.first("cutoff_len", "dataset"), text, help="raise `cutoff_len`, or leave long rows out"
                )


@rule("FT508")
def wrong_number_of_weights(config: Config) -> Findings:
    """What it does: checks the number of mixture weights against the number of data sets.
    Why it matters: `concat` takes none; every other strategy needs one per data set, and LLaMA-Factory applies the
        same check to `eval_dataset`.
    Example:
        dataset: a,b
        interleave_probs: 0.5,0.5
        ---
        dataset: a,b,c
        mix_strategy: interleave_over
        interleave_probs: 0.5,0.5
        ---
        dataset: a,b
        eval_dataset: c
        mix_strategy: interleave_over
        interleave_probs: 0.5,0.5
    Use instead:
        dataset: a,b
        mix_strategy: interleave_over
        interleave_probs: 0.5,0.5
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/data_args.py:163-174 (0.9.5)
    """
    if not config.has("interleave_probs"):
        return
    at = config.at("interleave_probs")
    if config.value("mix_strategy") == "concat":
        yield error(
            at,
            f"`{at.word}` has no effect while data sets are concatenated",
            help="write `mix_strategy: interleave_over`",
        )
        return
    weights = len(config.items("interleave_probs"))
    for name in ("dataset", "eval_dataset"):
        count = len(config.items(name))
        if count and count != weights:
            other = config.at(name)
            yield error(
                at,
                f"{weights} weights for {count} data sets in `{other.word}`",
                also=((other, f"{count} here"),),
                help="give one weight per data set"
                if name == "dataset"
                else "LLaMA-Factory applies the weights to the eval list too: use `val_size`",
            )


@rule("FT513")
def saved_tokens_override_data(config: Config) -> Findings:
    """What it does: points out that a run with `tokenized_path` also trains, and that later runs use the saved tokens.
    Why it matters: the first run is often meant to prepare only. Once the folder exists, `dataset`, `cutoff_len`,
        `template` and the like are ignored.
    Example:
        tokenized_path: saves/tokens
    Use instead:
        cutoff_len: 4096
    Applies to: LLaMA-Factory
    Source: llamafactory/data/loader.py:287-336 (0.9.5)
    """
    if config.is_explicit("tokenized_path") and config.trains and config.form != "recipe":
        yield info(
            config.at("tokenized_path"),
            "once this folder exists, all other data parameters are ignored",
            help="delete it when you change the data",
        )


@rule("FT514")
def repeated_dataset_ignored(config: Config) -> Findings:
    """What it does: finds a data set that is listed twice.
    Why it matters: LLaMA-Factory keeps data sets by name, so `a,a` is read once; the repetition adds no weight.
    Example:
        dataset: support,support
    Use instead:
        dataset: support,more
    Applies to: LLaMA-Factory
    Source: llamafactory/data/loader.py:176 (0.9.5): a dict by name
    """
    for name in ("dataset", "eval_dataset"):
        names = config.items(name)
        twice = [dataset for index, dataset in enumerate(names) if dataset in names[:index]]
        if twice:
            at = config.at(name)
            left = ",".join(dict.fromkeys(names))
            yield warning(
                at,
                f"`{twice[0]}` is listed twice but read once",
                help="add a second entry to dataset_info.json to give it more weight",
                fix=put(at, left, safe=True) if at.text.replace(" ", "") == ",".join(names) else None,
            )


@rule("FT516")
def streams_not_mixed(config: Config) -> Findings:
    """What it does: finds several streamed data sets without interleaving.
    Why it matters: all rows of one data set come before the next, so the end of training sees the last one only.
    Example:
        dataset: a,b
        streaming: true
        max_steps: 1000
    Use instead:
        dataset: a,b
        streaming: true
        max_steps: 1000
        mix_strategy: interleave_under
    Applies to: LLaMA-Factory
    Source: llamafactory/data/data_utils.py:58 (0.9.5)
    """
    if config.on("streaming") and len(config.items("dataset")) > 1 and config.value("mix_strategy") == "concat":
        at = config.first("dataset")
        yield warning(
            at,
            "streamed data sets are read one after the other, not mixed",
            help="write `mix_strategy: interleave_under`",
        )


@rule("FT512")
def max_pixels_below_min(config: Config) -> Findings:
    """What it does: finds a maximum image or video size below the minimum.
    Why it matters: the run stops while parsing its arguments.
    Example:
        image_max_pixels: 512
        ---
        video_max_pixels: 128
    Use instead:
        image_max_pixels: 262144
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/model_args.py:347 (0.9.5)
    """
    for kind in ("image", "video"):
        high, low = config.number(f"{kind}_max_pixels"), config.number(f"{kind}_min_pixels")
        if high is not None and low is not None and high < low:
            at = config.first(f"{kind}_max_pixels", f"{kind}_min_pixels")
            yield error(
                at,
                f"the maximum {kind} size ({high:g} pixels) is below the minimum ({low:g})",
                help=f"raise `{config.word(f'{kind}_max_pixels')}`",
            )


@rule("FT518")
def unsupported_file_type(config: Config) -> Findings:
    """What it does: checks the file extension of each data set.
    Why it matters: LLaMA-Factory chooses the reader by extension, and stops on an unknown one after the tokenizer
        is loaded.
    Example:
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.xlsx"}}
    Use instead:
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.jsonl"}}
    Applies to: LLaMA-Factory
    Source: llamafactory/extras/constants.py, FILEEXT2TYPE; data/loader.py:84 (0.9.5)
    """
    for dataset, entry in entries(config):
        ending = PurePosixPath(str(entry.get("file_name", ""))).suffix
        if ending and ending not in (".arrow", ".csv", ".json", ".jsonl", ".parquet", ".txt"):
            at = dataset.setting or config.at("dataset")
            yield error(
                at,
                f"`{dataset.name}` is a `{ending}` file, which LLaMA-Factory cannot read",
                help="convert it to JSON Lines",
            )


@rule("FT522")
def unknown_row_format(config: Config) -> Findings:
    """What it does: finds an unknown `formatting` in dataset_info.json.
    Why it matters: LLaMA-Factory looks for the converter only when it loads the rows.
    Example:
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.json", "formatting": "chatml"}}
    Use instead:
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.json", "formatting": "sharegpt"}}
    Applies to: LLaMA-Factory
    Source: llamafactory/data/converter.py:369-388 (0.9.5)
    """
    for dataset, entry in entries(config):
        formatting = entry.get("formatting", "alpaca")
        if formatting not in ("alpaca", "sharegpt", "openai"):
            at = dataset.setting or config.at("dataset")
            yield error(
                at,
                f"`{dataset.name}` has an unknown format: `{formatting}`",
                help="write alpaca, sharegpt or openai in its entry",
            )
