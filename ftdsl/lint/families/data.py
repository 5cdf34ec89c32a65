"""Rows: which, how many, how they are packed and mixed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from ftdsl.diagnostics.suggest import closest
from ftdsl.lint.config import Config, Dataset
from ftdsl.lint.edits import drop, put
from ftdsl.lint.rule import Found, error, info, rule, warning


@rule("FT113")
def stream_without_end(config: Config) -> Found:
    """What it does: finds streams without `max_steps`, with `max_samples`, or saved with `tokenized_path`.
    Why it matters: nobody knows how long a stream is: the run stops when its arguments are read, or when the
        rows are to be saved.
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
            "a stream has no end: the run needs a number of steps",
            help="write `max_steps: 1000`" if config.form != "recipe" else "write `duration = 1000 steps`",
        )
    if config.has("max_samples"):
        other = config.at("max_samples")
        yield error(
            other,
            f"`{other.word}` cannot be taken from a stream",
            also=((at, "streamed here"),),
            help=f"drop it; `{config.word('max_steps')}` says how long",
            fix=drop(other),
        )
    if config.has("tokenized_path"):
        other = config.at("tokenized_path")
        yield error(
            other, "a stream cannot be tokenised ahead", also=((at, "streamed here"),), help="turn streaming off"
        )


@rule("FT501")
def file_not_found(config: Config) -> Found:
    """What it does: looks for each data set in dataset_info.json, and for its file.
    Why it matters: LLaMA-Factory looks after the model's tokenizer is loaded: a slip in a name costs a download.
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
    for one in config.datasets:
        at = one.setting or config.at("dataset")
        if one.entry is None and one.known:
            guess = closest(one.name, one.known)
            label = f"did you mean `{guess}`?" if guess else ""
            fix = put(at, at.text.replace(one.name, guess), safe=False) if guess and at.span else None
            some = ", ".join(list(one.known)[:6])
            yield error(at, f"dataset_info.json has no `{one.name}`", label=label, help=f"it has {some}", fix=fix)
        elif one.there is False:
            yield error(at, f"there is no file `{one.file}`", help="paths are seen from `dataset_dir`")


def entries(config: Config) -> list[tuple[Dataset, dict[str, object]]]:
    return [(one, dict(one.entry)) for one in config.datasets if one.entry is not None]


@rule("FT502")
def wrong_data_for_stage(config: Config) -> Found:
    """What it does: holds the kind of rows against the stage: pairs for `rm` and `dpo`, none for the others; and the columns
        of the first row, where it can be seen, against those the stage reads.
    Why it matters: the engine refuses when the rows are loaded.
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
    for one, entry in entries(config):
        at = one.setting or config.at("dataset")
        if pairs and not entry.get("ranking"):
            yield error(
                at,
                f"a {config.stage} stage learns from pairs, and `{one.name}` is not marked as such",
                help='write `"ranking": true` in its entry of dataset_info.json',
            )
        elif not pairs and entry.get("ranking"):
            yield error(
                at,
                f"`{one.name}` holds pairs, and a {config.stage} stage learns from single answers",
                help="use it in a `dpo` or `rm` stage",
            )
        elif lacking := _lacking(one, entry, config.stage):
            have = ", ".join(f"`{name}`" for name in one.columns)
            yield error(
                at,
                f"rows of `{one.name}` have no {', '.join(f'`{name}`' for name in lacking)}, which `{config.stage}` needs",
                label=f"they have {have}",
                help='name the columns in its entry of dataset_info.json: `"columns": {"prompt": "…", "response": "…"}`',
            )


_DEFAULT_COLUMNS = {"prompt": "instruction", "response": "output", "messages": "conversations"}
_NEEDED = {
    "pt": ("prompt",),
    "sft": ("prompt", "response"),
    "kto": ("prompt", "response", "kto_tag"),
    "ppo": ("prompt",),
}


def _lacking(one: Dataset, entry: Mapping[str, object], stage: str) -> list[str]:
    """Columns that a stage reads, by their names in the entry, and that the first row lacks; none where no row was seen."""
    columns = entry.get("columns", _DEFAULT_COLUMNS)
    if not one.columns or not isinstance(columns, Mapping):
        return []
    needed = ("messages",) if entry.get("formatting", "alpaca") != "alpaca" else _NEEDED.get(stage, ("prompt",))
    needed = (*needed, *(("chosen", "rejected") if entry.get("ranking") else ()))
    names = [columns[part] for part in needed if isinstance(columns.get(part), str)]
    return [name for name in names if name not in one.columns]


@rule("FT515")
def columns_forget_the_rest(config: Config) -> Found:
    """What it does: finds `columns` or `tags` of dataset_info.json that name some and leave the others out.
    Why it matters: as soon as one column is named LLaMA-Factory forgets the default of every other: with only
        `prompt` given there are no answers, and rows are dropped or learnt empty.
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
    for one, entry in entries(config):
        at = one.setting or config.at("dataset")
        chat = entry.get("formatting") in ("sharegpt", "openai")
        columns, tags = entry.get("columns"), entry.get("tags")
        needed = [] if not isinstance(columns, dict) else ["messages"] if chat else ["prompt"]
        if isinstance(columns, dict) and not chat and config.stage in ("sft", "kto"):
            needed.append("response")
        missing = [name for name in needed if not isinstance(columns, dict) or name not in columns]
        if missing:
            text = f"`columns` of `{one.name}` leaves out {' and '.join(f'`{name}`' for name in missing)}, which then is nothing"
            yield warning(at, text, help="name every column that is there: defaults are gone as soon as one is named")
        if isinstance(tags, dict) and chat:
            gone = [name for name in ("role_tag", "content_tag", "user_tag", "assistant_tag") if name not in tags]
            if gone:
                text = f"`tags` of `{one.name}` leaves out {' and '.join(f'`{name}`' for name in gone)}, which then is nothing"
                yield warning(at, text, help="name every tag: defaults are gone as soon as one is named")


@rule("FT521")
def system_prompt_added(config: Config) -> Found:
    """What it does: finds data sets with `"formatting": "openai"`.
    Why it matters: the engine writes "detailed thinking off" into the system prompt of each of their rows that has no
        tools, in place of the template's own; the model is then never asked the way it was trained.
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
    for one, entry in entries(config):
        if entry.get("formatting") == "openai":
            text = f'`{one.name}` is read as `openai`: rows without tools get the system prompt "detailed thinking off"'
            help = 'write `"formatting": "sharegpt"` with `role_tag`, `content_tag`, `user_tag`, `assistant_tag`, `system_tag`'
            yield warning(one.setting or config.at("dataset"), text, help=help)


@rule("FT505")
def rows_are_cut(config: Config) -> Found:
    """What it does: holds the measured length of rows against `cutoff_len`.
    Why it matters: what is longer is cut off without a word, from the end: the answer goes first.
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
    for one in config.datasets:
        length = one.lengths.get(95)
        if length and limit and length > limit and not config.on("packing"):
            at = config.first("cutoff_len")
            near = -(-length // 1024) * 1024
            yield warning(
                at,
                f"more than 5 % of `{one.name}` is longer than {limit:g} tokens and is cut",
                label=f"95 % of it fit into {length}",
                help=f"write {near}, or drop long rows",
                fix=put(at, str(near), safe=False) if config.form != "recipe" else None,
            )


@rule("FT508")
def weights_do_not_fit(config: Config) -> Found:
    """What it does: holds mixture weights against the data sets they are for.
    Why it matters: `concat` takes none; every other strategy wants one a data set, and LLaMA-Factory holds them
        against `eval_dataset` too.
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
            f"`{at.word}` means nothing while data sets are put end to end",
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
                help="give one a data set"
                if name == "dataset"
                else "LLaMA-Factory holds them against the eval list too: use `val_size`",
            )


@rule("FT513")
def trains_after_tokenising(config: Config) -> Found:
    """What it does: says that a run with `tokenized_path` trains after it has saved the tokens.
    Why it matters: the first run is often meant to prepare only. And once the folder is there, `dataset`,
        `cutoff_len`, `template` and the like are ignored: what was saved counts.
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
            "once this folder is there, every other data parameter is ignored",
            help="delete it when you change the data",
        )


@rule("FT514")
def counted_once(config: Config) -> Found:
    """What it does: finds a data set that is named twice.
    Why it matters: LLaMA-Factory keeps data sets by name, so that `a,a` is read once; naming it again does not
        weight it.
    Example:
        dataset: support,support
    Use instead:
        dataset: support,more
    Applies to: LLaMA-Factory
    Source: llamafactory/data/loader.py:176 (0.9.5): a dict by name
    """
    for name in ("dataset", "eval_dataset"):
        names = config.items(name)
        twice = [one for at, one in enumerate(names) if one in names[:at]]
        if twice:
            at = config.at(name)
            left = ",".join(dict.fromkeys(names))
            yield warning(
                at,
                f"`{twice[0]}` is named twice and read once",
                help="give it a second entry in dataset_info.json to weight it",
                fix=put(at, left, safe=True) if at.text.replace(" ", "") == ",".join(names) else None,
            )


@rule("FT516")
def mixed_in_name_only(config: Config) -> Found:
    """What it does: finds data sets that are streamed end to end.
    Why it matters: rows of one data set all come before the next: what is learnt last is only the last.
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
            "streamed data sets are not mixed: one comes after the other",
            help="write `mix_strategy: interleave_under`",
        )


@rule("FT512")
def pixels_upside_down(config: Config) -> Found:
    """What it does: finds a largest picture that is smaller than the smallest.
    Why it matters: the run stops when its arguments are read.
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
                f"the largest {kind} has {high:g} pixels and the smallest {low:g}",
                help=f"raise `{config.word(f'{kind}_max_pixels')}`",
            )


@rule("FT518")
def file_types_differ(config: Config) -> Found:
    """What it does: looks at the ending of a data set's file.
    Why it matters: LLaMA-Factory reads by the ending, and stops on one it does not know after the tokenizer is
        loaded.
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
    for one, entry in entries(config):
        ending = PurePosixPath(str(entry.get("file_name", ""))).suffix
        if ending and ending not in (".arrow", ".csv", ".json", ".jsonl", ".parquet", ".txt"):
            at = one.setting or config.at("dataset")
            yield error(
                at,
                f"`{one.name}` is a `{ending}` file, which LLaMA-Factory does not read",
                help="convert it to JSON Lines",
            )


@rule("FT522")
def rows_of_no_format(config: Config) -> Found:
    """What it does: finds a `formatting` in dataset_info.json that is none.
    Why it matters: LLaMA-Factory looks for its converter when the rows are loaded.
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
    for one, entry in entries(config):
        said = entry.get("formatting", "alpaca")
        if said not in ("alpaca", "sharegpt", "openai"):
            at = one.setting or config.at("dataset")
            yield error(
                at, f"`{one.name}` is in no format: `{said}`", help="write alpaca, sharegpt or openai in its entry"
            )
