"""Commands that start LLaMA-Factory, as `Config`s: what the launcher is told, then what the engine is told.

`llamafactory-cli train …`, `torchrun … src/train.py …`, `accelerate launch … src/train.py …`, `deepspeed … src/train.py …`,
`python src/train.py …`, each with a file, with `key=value` after it, or with flags.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path, PurePosixPath
from typing import Any

from ftdsl import catalog
from ftdsl.credentials import is_secret_name
from ftdsl.importers import documents
from ftdsl.importers.draft import Note
from ftdsl.importers.shell import Simple, Word
from ftdsl.importers.values import whole
from ftdsl.language.yaml_tree import scalar
from ftdsl.lint.config import Config, Document, Form, Kind, Launch, Setting
from ftdsl.record import mutable
from ftdsl.session import Session, is_absent, reason

CLI = ("llamafactory-cli", "lmf")
SCRIPTS = ("train.py", "train_bash.py", "launcher.py", "cli.py", "export_model.py", "train_web.py")
ACTIONS: Mapping[str, Kind] = {"train": "train", "export": "export", "chat": "chat", "api": "chat", "webchat": "chat"}
_BEFORE = ("nohup", "time", "sudo", "exec", "stdbuf", "nice")
_SILENT = (
    "cd",
    "set",
    "echo",
    "mkdir",
    "source",
    ".",
    "conda",
    "module",
    "ulimit",
    "sleep",
    "wait",
    "date",
    "pwd",
    "exit",
    "true",
)
_SWITCHES = frozenset(
    "standalone no_python module use_deepspeed use_fsdp multi_gpu cpu use_megatron_lm tpu same_network debug quiet use_xpu "
    "no_local_rank no_ssh force_multi save_pid enable_elastic_training bind_cores_to_rank mps m".split()
)
"""Flags of the launchers that take no value."""


@mutable
class Started:
    """A command on the way: launcher, its flags, the environment, and the words meant for the engine."""

    env: Mapping[str, Word]
    launcher: str = ""
    flags: dict[str, Word] = field(default_factory=dict)
    action: Kind = "train"
    words: list[Word] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def config(simple: Simple, root: Path, session: Session, notes: list[Note]) -> tuple[Config, str] | None:
    """The invocation a command is, with the stem of the file it names; None (and a note) when it starts no engine."""
    started = _started(simple)
    notes += started.notes
    if started.launcher == "other":
        _other(simple, notes)
        return None
    found: dict[str, Setting] = {}
    stem = ""
    words = list(started.words)
    span = simple.words[0].span.to(simple.words[-1].span)
    if words and words[0].text.endswith((".yaml", ".yml", ".json")):
        file = _file(words[0], root, session, notes)
        stem = PurePosixPath(words[0].text).stem
        if file is None:
            return None
        found = documents.settings(file.node)
        found |= dict(_overrides(words[1:]))
        span = file.node.span
    else:
        found = dict(_flags(words, notes))
    accelerate = _accelerate(started, root, session, notes)
    form: Form = "yaml" if stem else "command"
    made = documents.made(
        found,
        form,
        stem or "command",
        span,
        root,
        session,
        kind=started.action,
        launch=_launch(started),
        accelerate=accelerate,
    )
    return made, stem


def _other(simple: Simple, notes: list[Note]) -> None:
    name = simple.words[0]
    if name.text not in _SILENT:
        notes.append(Note(name.text, "starts no LLaMA-Factory; a `shell` stage can run it", name.span))
    elif name.text == "cd":
        notes.append(Note("cd", "is not followed: paths are seen from where `ftc import` is called", name.span))


# --- the launcher's part


def _started(simple: Simple) -> Started:
    started = Started(dict(simple.env))
    words = list(simple.words)
    while words:
        name = PurePosixPath(words[0].text).name
        if name in _BEFORE or words[0].text.startswith("-"):
            words = words[1:]
        elif name == "env":
            words = words[1:]
            while words and "=" in words[0].text and not words[0].text.startswith("-"):
                key, _, value = words[0].text.partition("=")
                started.env = {**started.env, key: Word(value, words[0].span)}
                words = words[1:]
        elif name in CLI:
            return _cli(started, words)
        elif name.startswith("python"):
            words = _python(started, words)
        elif name in ("torchrun", "deepspeed"):
            started.launcher = name
            words = _launcher_flags(started, words[1:])
        elif name == "accelerate" and len(words) > 1 and words[1].text == "launch":
            started.launcher = name
            words = _launcher_flags(started, words[2:])
        elif name in SCRIPTS or name == "llamafactory.cli":
            action: Kind = "export" if name.startswith("export") else "train"
            return _script(started, words, action)
        else:
            break
    started.launcher = "other"
    return started


def _python(started: Started, words: list[Word]) -> list[Word]:
    """`python -m torch.distributed.run` is torchrun, `python -m llamafactory.cli` the engine, else a script follows."""
    if len(words) > 2 and words[1].text == "-m":
        module = words[2].text
        if module in ("torch.distributed.run", "torch.distributed.launch"):
            return [Word("torchrun", words[2].span), *words[3:]]
        if module in ("accelerate.commands.launch", "deepspeed.launcher.runner"):
            tool = "accelerate" if module.startswith("accelerate") else "deepspeed"
            return [
                Word(tool, words[2].span),
                *([Word("launch", words[2].span)] if tool == "accelerate" else []),
                *words[3:],
            ]
        if module in ("llamafactory.cli", "llamafactory"):
            return [Word("llamafactory-cli", words[2].span), *words[3:]]
        return []
    rest = words[1:]
    while rest and rest[0].text.startswith("-"):
        rest = rest[1:]
    return rest if rest and PurePosixPath(rest[0].text).name in (*SCRIPTS, *CLI) else []


def _launcher_flags(started: Started, words: list[Word]) -> list[Word]:
    """The launcher's own flags, up to the script."""
    while words and words[0].text.startswith("-"):
        name, equals, value = words[0].text.lstrip("-").partition("=")
        name = name.replace("-", "_")
        if equals:
            started.flags[name] = Word(value, words[0].span)
            words = words[1:]
        elif name in _SWITCHES or len(words) < 2 or words[1].text.startswith("--"):
            started.flags[name] = Word("true", words[0].span)
            words = words[1:]
        else:
            started.flags[name] = words[1]
            words = words[2:]
    return words


def _cli(started: Started, words: list[Word]) -> Started:
    action = words[1].text if len(words) > 1 else ""
    started.action = ACTIONS.get(action, "chat")
    if action not in ACTIONS:
        started.launcher = "other"
    started.words = words[2:]
    if action == "eval":
        started.notes.append(Note("llamafactory-cli eval", "was taken out of LLaMA-Factory", words[1].span))
    return started


def _script(started: Started, words: list[Word], action: Kind) -> Started:
    rest = words[1:]
    if rest and rest[0].text in ACTIONS:
        action, rest = ACTIONS[rest[0].text], rest[1:]
    started.action, started.words = action, rest
    return started


def _launch(started: Started) -> Launch:
    flags = {name: word.text for name, word in started.flags.items()}
    env = {name: word.text for name, word in started.env.items() if word.known or is_secret_name(name)}
    for name, variable in _VARIABLES.items():
        if name in flags:
            env[variable] = flags[name]
    nodes = flags.get("nnodes") or flags.get("num_machines") or flags.get("num_nodes") or env.get("NNODES") or "1"
    if ":" in nodes:
        env["MIN_NNODES"], _, env["MAX_NNODES"] = nodes.partition(":")
        nodes = env["MAX_NNODES"]
    count = whole(nodes) or 1
    if devices := flags.get("include", "").rpartition(":")[2]:  # deepspeed --include localhost:0,1
        env.setdefault("CUDA_VISIBLE_DEVICES", devices)
    elif "gpu_ids" in flags and flags["gpu_ids"] != "all":
        env.setdefault("CUDA_VISIBLE_DEVICES", flags["gpu_ids"])
    launcher = started.launcher or ("torchrun" if env.get("FORCE_TORCHRUN") in ("1", "true") else "")
    return Launch(count, _processes(flags, env, count), launcher, env)


_VARIABLES = {"master_addr": "MASTER_ADDR", "master_port": "MASTER_PORT", "main_process_ip": "MASTER_ADDR",
              "main_process_port": "MASTER_PORT", "max_restarts": "MAX_RESTARTS", "rdzv_id": "RDZV_ID"}  # fmt: skip


def _processes(flags: Mapping[str, str], env: Mapping[str, str], nodes: int) -> int:
    own = flags.get("nproc_per_node") or flags.get("num_gpus") or env.get("NPROC_PER_NODE") or ""
    if (found := whole(own)) is not None:
        return found
    return (whole(flags.get("num_processes", "")) or 0) // nodes


def _accelerate(started: Started, root: Path, session: Session, notes: list[Note]) -> Document | None:
    """The file of `accelerate launch --config_file`, or its flags as such a file would have them."""
    if started.launcher != "accelerate":
        return None
    if (file := started.flags.get("config_file")) is not None:
        try:
            return documents.document(root / file.text, file.text, session)
        except (OSError, UnicodeDecodeError) as error:
            _unread(f"--config_file {file.text}", file, error, session, notes)
            return None
    flags = {name: scalar(word.text) for name, word in started.flags.items()}
    data: dict[str, Any] = {name: value for name, value in flags.items() if not name.startswith(("fsdp_", "use_"))}
    if flags.get("use_fsdp") is True:
        inner = {name: value for name, value in flags.items() if name.startswith("fsdp_")}
        data |= {"distributed_type": "FSDP", "fsdp_config": inner}
    leaves = {
        name: Setting(name, flags[name], f"--{name}", word.span, word.span) for name, word in started.flags.items()
    }
    return Document("accelerate launch", data, leaves, next((word.span for word in started.flags.values()), None))


# --- the engine's part


def _file(word: Word, root: Path, session: Session, notes: list[Note]) -> documents.Read | None:
    try:
        return documents.read(root / word.text, word.text, session)
    except (OSError, UnicodeDecodeError) as error:
        _unread(word.text, word, error, session, notes)
        return None


def _unread(name: str, word: Word, error: OSError | UnicodeDecodeError, session: Session, notes: list[Note]) -> None:
    """A file that is not here may be elsewhere; one that is here and no text is an error."""
    if is_absent(error):
        notes.append(Note(name, "is not there to be read", word.span))
    else:
        session.sink.error("FT050", f"`{word.text}` cannot be read: {reason(error)}", word.span)


def _overrides(words: Sequence[Word]) -> Iterator[tuple[str, Setting]]:
    """`learning_rate=1e-5` after a file (OmegaConf.from_cli)."""
    for word in words:
        name, equals, text = word.text.partition("=")
        name = name.lstrip("-")
        if equals:
            yield name, Setting(name, scalar(text), name, word.span, word.span)


def _flags(words: Sequence[Word], notes: list[Note]) -> Iterator[tuple[str, Setting]]:
    """`--name value`, `--name=value`, `--name` alone for true; several values make a list (HfArgumentParser)."""
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if not word.text.startswith("--"):
            notes.append(Note(word.text, "is no flag, and no flag stands before it", word.span))
            continue
        written, equals, text = word.text[2:].partition("=")
        values = [Word(text, word.span, word.known)] if equals else []
        while not equals and at < len(words) and not words[at].text.startswith("--"):
            values.append(words[at])
            at += 1
        name, value = _named(written, values)
        span = values[0].span.to(values[-1].span) if values else word.span
        yield name, Setting(name, value, f"--{written}", span, word.span)


def _named(written: str, values: Sequence[Word]) -> tuple[str, Any]:
    name = written.replace("-", "_")
    schema = catalog.engine_schema("llamafactory")
    if name not in schema and name.startswith("no_") and name[3:] in schema:
        return name[3:], False
    name = _unabbreviated(name, schema)
    if not values:
        return name, True
    if len(values) > 1:
        return name, [_typed(name, word.text) for word in values]
    return name, _typed(name, values[0].text)


def _unabbreviated(name: str, schema: Mapping[str, Any]) -> str:
    """argparse takes the start of a flag for the flag, where only one begins so."""
    if name in schema or name in catalog.misnamed():
        return name
    fitting = [known for known in schema if known.startswith(name)]
    return fitting[0] if len(fitting) == 1 else name


def _typed(name: str, text: str) -> Any:
    """A flag's text as the parameter's type; texts stay texts (`--dataset 123`)."""
    kind = str(catalog.engine_schema("llamafactory").get(name, {}).get("type", ""))
    if "dict" in kind and text.startswith("{"):
        return scalar(text)
    if any(word in kind for word in ("bool", "int", "float")) or not kind:
        return scalar(text)
    return text
