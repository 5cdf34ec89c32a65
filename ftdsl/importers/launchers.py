"""What precedes the engine in a command: wrappers (`srun`, `uv run`, `docker run`), launchers and their flags.

Given: the words of a command. Gives: which launcher with which flags, the environment, and the words for the engine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import field
from pathlib import Path, PurePosixPath
from typing import Any

from ftdsl import catalog
from ftdsl.credentials import is_secret_name
from ftdsl.importers import documents, recognise, tools
from ftdsl.importers.bash_words import OPEN, Word
from ftdsl.importers.draft import Note
from ftdsl.importers.shell import Simple
from ftdsl.importers.trl.trainers import CLI as CLI_OF_TRAINERS
from ftdsl.importers.trl.trainers import is_verb, trainer_of_script
from ftdsl.importers.values import whole
from ftdsl.language.yaml_tree import scalar
from ftdsl.lint.config import Document, Kind, Launch, Setting
from ftdsl.record import mutable, replace
from ftdsl.session import Session

CLI = ("llamafactory-cli", "lmf")
SCRIPTS = ("train.py", "train_bash.py", "launcher.py", "cli.py", "export_model.py", "train_web.py", "cli_demo.py", "web_demo.py",
           "api_demo.py", "evaluate.py")  # fmt: skip
BENCHMARKS = "evaluate.py"
"""The script of releases until 0.6 that ran benchmarks, as `llamafactory-cli eval` did."""
CHATS = ("cli_demo.py", "web_demo.py", "api_demo.py")
"""Scripts of releases until 0.7 that chat or serve."""
ACTIONS: Mapping[str, Kind] = {"train": "train", "export": "export", "chat": "chat", "api": "chat", "webchat": "chat"}
TAKEN_OUT = ("eval",)
OLD_MODULES = ("llmtuner.cli", "src.llmtuner.cli", "src.llamafactory.cli")
"""Names of the command line's module in earlier releases and in checkouts."""
MODULES = (
    *OLD_MODULES,
    "llamafactory.cli",
    "llamafactory",
    "llamafactory.launcher",
    "llamafactory.train.tuner",
    "src.train",
)
OWN = frozenset(
    ("stage", "finetuning_type", "template", "cutoff_len", "dataset_dir", "lora_target", "export_dir", "dataset")
)
"""Flags that tell LLaMA-Factory's `train.py` from anybody's."""
_SWITCHES = frozenset(
    "standalone no_python module use_deepspeed use_fsdp multi_gpu cpu use_megatron_lm tpu same_network debug quiet use_xpu "
    "no_local_rank no_ssh force_multi save_pid enable_elastic_training bind_cores_to_rank mps m dynamo_use_fullgraph "
    "dynamo_use_dynamic ipex".split()
)
"""Flags of the launchers that take no value."""


@mutable
class Started:
    """A command on the way: launcher, its flags, the environment, and the words meant for the engine.

    launcher: "" for the engine's own, "other" where no engine is started; tool: another tool that is; gone: a verb that
    LLaMA-Factory no longer has; idle: a command of LLaMA-Factory that neither trains, exports nor chats; engine, trainer: whose,
    and which verb of its command line; verb: that command line itself, which takes accelerate's flags among its own.
    """

    env: dict[str, Word]
    launcher: str = ""
    flags: dict[str, Word] = field(default_factory=dict)
    action: Kind = "train"
    words: list[Word] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    tool: str = ""
    gone: str = ""
    idle: str = ""
    engine: str = recognise.ENGINE
    trainer: str = ""
    verb: bool = False


def started(simple: Simple) -> Started:
    """What a command starts."""
    made = Started(dict(simple.env))
    words = list(simple.words)
    texts = [word.text for word in words]
    at = start_of(texts)
    if at is None:
        if _has_our_flags(words[1:]) and not tools.of_command(texts):
            return _wrapped(made, words)
        made.launcher, made.tool = "other", tools.of_command(texts)
        return made
    made.env |= _environment(words[:at])
    words = words[at:]
    while words:
        name = PurePosixPath(words[0].text).name
        if name in CLI or words[0].text in (*OLD_MODULES, "llamafactory.cli", "llamafactory.launcher"):
            return _cli(made, words)
        if verb := _verb([word.text for word in words]):
            return _trainer(made, verb, words[2:], verb=True)
        if verb := _trained_by(words):
            return _trainer(made, verb, words[1:], verb=False)
        if name in ("torchrun", "deepspeed"):
            made.launcher = name
            words = _launcher_flags(made, words[1:])
        elif name == "accelerate" and len(words) > 1 and words[1].text == "launch":
            made.launcher = name
            words = _launcher_flags(made, words[2:])
        elif name == BENCHMARKS and _is_ours(words):
            made.launcher, made.gone, made.idle = "other", "eval", words[0].text
            return made
        elif name in SCRIPTS and _is_ours(words):
            return _script(made, words, "chat" if name in CHATS else "export" if name.startswith("export") else "train")
        elif _is_python(words[0]):
            words = _python(made, words)
        elif words[0].text in MODULES:
            return _script(made, words, "train")
        elif _has_our_flags(words[1:]):
            return _wrapped(made, words)
        else:
            break
    made.launcher, made.tool = "other", tools.of_command(texts)
    return made


def _verb(texts: Sequence[str]) -> str:
    """`sft` of `trl sft …`."""
    starts = len(texts) > 1 and PurePosixPath(texts[0]).name == CLI_OF_TRAINERS and is_verb(texts[1])
    return texts[1] if starts else ""


def _trained_by(words: Sequence[Word]) -> str:
    """The trainer of a script that comes with TRL."""
    return trainer_of_script(words[0].text, [word.text for word in words[1:]]) if words[0].text.endswith(".py") else ""


def _trainer(made: Started, trainer: str, words: list[Word], *, verb: bool) -> Started:
    made.engine, made.trainer, made.words, made.verb = recognise.TRL, trainer, words, verb
    return made


def start_of(texts: Sequence[str]) -> int | None:
    """The position of the engine, or of the launcher that starts it: first, or behind wrappers and their flags."""
    for at, text in enumerate(texts):
        before, after = texts[at - 1] if at else "", texts[at + 1] if at + 1 < len(texts) else ""
        if _starts(text, before, after) or _verb(texts[at : at + 2]):
            return at
        if text.endswith(".py") and not _is_python_text(before) and trainer_of_script(text, texts[at + 1 :]):
            return at
        if at == 0 and not is_wrapper(text):
            return None
    return None


def _starts(text: str, before: str, after: str) -> bool:
    """Whether a word, between these two, starts the engine, a launcher or Python."""
    name = PurePosixPath(text).name
    if name in (*CLI, "torchrun", "deepspeed") or (name == "accelerate" and after == "launch"):
        return True
    if name in SCRIPTS:
        return not _is_python_text(before)
    return _is_python_text(text) and (after.endswith(".py") or after.startswith("-"))


_WRAPPERS = frozenset(
    "srun mpirun mpiexec numactl taskset timeout stdbuf nice ionice sudo nohup time exec env xvfb-run uv uvx poetry "
    "conda mamba micromamba pipenv pdm hatch pixi rye singularity apptainer docker nvidia-docker podman kubectl ssh "
    "screen tmux setsid command unbuffer script sbatch bsub nsys ncu py-spy viztracer proxychains proxychains4 flock "
    "chronic pdsh ray torchx caffeinate bash sh zsh firejail systemd-run ts parallel CUDA_LAUNCH_BLOCKING dotenv op "
    "doppler salloc gosu su runuser chroot enroot shifter watch xargs strace perf compute-sanitizer jsrun aprun prun "
    "flux orterun qsub dumb-init tini chrt prlimit unshare nsenter cgexec hwloc-bind ddtrace-run opentelemetry-instrument "
    "eatmydata fakeroot catchsegv sky mpirun.openmpi mpiexec.hydra retry oarsub condor_run charliecloud "
    "ch-run udocker devbox nix nix-shell guix direnv mise asdf aws-vault vault".split()
)


def is_wrapper(text: str) -> bool:
    """Whether a command may start another one that follows it; what only a shell could tell may."""
    return PurePosixPath(text).name in _WRAPPERS or text.startswith(("$", "-")) or "=" in text


def _is_python_text(text: str) -> bool:
    name = PurePosixPath(text).name
    return bool(re.fullmatch(r"(?:python|pypy)[\d.]*(?:\.exe)?|py|ipython|coverage", name)) or (
        text.startswith("$") and "py" in text.lower()
    )


def _is_python(word: Word) -> bool:
    return _is_python_text(word.text)


def _is_ours(words: Sequence[Word]) -> bool:
    """Whether `train.py` is LLaMA-Factory's: by where it lies, by the file it is given, by its flags."""
    path = words[0].text
    if path.startswith("src/") or "/src/" in path or "factory" in path.lower() or path.endswith("train_bash.py"):
        return True
    rest = [word.text for word in words[1:]]
    if rest and rest[0].endswith((".yaml", ".yml", ".json")):
        return True
    return bool({text.lstrip("-").partition("=")[0].replace("-", "_") for text in rest if text.startswith("--")} & OWN)


def _has_our_flags(words: Sequence[Word]) -> bool:
    """Whether a program that is not known by its name takes LLaMA-Factory's flags: it hands them on."""
    flags = {word.text.lstrip("-").partition("=")[0].replace("-", "_") for word in words if word.text.startswith("--")}
    return {"stage", "finetuning_type"} <= flags


def _wrapped(made: Started, words: list[Word]) -> Started:
    """A program of somebody's own that trains with LLaMA-Factory: `mytool-train --stage sft --finetuning_type lora …`."""
    first = next(at for at, word in enumerate(words) if word.text.startswith("--"))
    name = words[first - 1]
    made.notes.append(Note(name.text, "taken as LLaMA-Factory's, by its flags", name.span, carried=True))
    made.action, made.words = "train", words[first:]
    return made


def _environment(words: Sequence[Word]) -> dict[str, Word]:
    """`A=b` among the words of a wrapper: `env A=b`, `docker run -e A=b`, `srun --export=ALL,A=b`."""
    variables: dict[str, Word] = {}
    for word in words:
        text = word.text.removeprefix("--env=").removeprefix("--export=")
        for part in text.split(",") if word.text.startswith("--export") else [text]:
            match = re.fullmatch(r"([A-Za-z_]\w*)=(.*)", part, re.S | re.A)
            if match is not None:
                variables[match[1]] = Word(match[2], word.span, word.known)
    return variables


def _python(made: Started, words: list[Word]) -> list[Word]:
    """`python -m torch.distributed.run` is torchrun, `python -m llamafactory.cli` the engine, else a script follows."""
    rest = words[1:]
    while rest and rest[0].text.startswith("-") and rest[0].text != "-m":
        rest = rest[1:]
    if len(rest) > 1 and rest[0].text == "-m":
        module, span = rest[1].text, rest[1].span
        if module in ("torch.distributed.run", "torch.distributed.launch"):
            return [Word("torchrun", span), *rest[2:]]
        if module in ("accelerate.commands.launch", "accelerate.commands.accelerate_cli"):
            return [Word("accelerate", span), Word("launch", span), *rest[2 + (module.endswith("cli")) :]]
        if module.startswith("deepspeed"):
            return [Word("deepspeed", span), *rest[2:]]
        if module in (*OLD_MODULES, "llamafactory.cli", "llamafactory"):
            return [Word("llamafactory-cli", span), *rest[2:]]
        if module == CLI_OF_TRAINERS or module.startswith(f"{CLI_OF_TRAINERS}.scripts."):
            script = (
                [Word(f"{module.replace('.', '/')}.py", span)] if module != CLI_OF_TRAINERS else [Word(module, span)]
            )
            return [*script, *rest[2:]]
        return rest[1:] if module in MODULES or _has_our_flags(rest[2:]) else []
    ours = rest and (PurePosixPath(rest[0].text).name in (*SCRIPTS, *CLI) or rest[0].text.endswith("deepspeed"))
    ours = ours or _has_our_flags(rest[1:])
    return rest if ours or (rest and (_trained_by(rest) or _verb([word.text for word in rest]))) else []


def _launcher_flags(made: Started, words: list[Word]) -> list[Word]:
    """The launcher's own flags, up to the script."""
    while words and words[0].text.startswith("-"):
        name, equals, value = words[0].text.lstrip("-").partition("=")
        name = name.replace("-", "_")
        if equals:
            marked = words[0].marked.partition("=")[2]
            made.flags[name] = Word(value, words[0].span, words[0].known, marked)
            words = words[1:]
        elif name in _SWITCHES or len(words) < 2 or words[1].text.startswith("--"):
            made.flags[name] = Word("true", words[0].span)
            words = words[1:]
        else:
            made.flags[name] = words[1]
            words = words[2:]
    return words


def _cli(made: Started, words: list[Word]) -> Started:
    action = words[1].text if len(words) > 1 else ""
    if words[0].text == "llamafactory.launcher" and action not in ACTIONS:
        return _script(made, words, "train")
    made.action = ACTIONS.get(action, "chat")
    made.words = words[2:]
    if action not in ACTIONS:
        made.idle = f"llamafactory-cli {action}".rstrip()
        made.launcher, made.gone = "other", action if action in TAKEN_OUT else ""
    return made


def _script(made: Started, words: list[Word], action: Kind) -> Started:
    rest = words[1:]
    if rest and rest[0].text in ACTIONS:
        action, rest = ACTIONS[rest[0].text], rest[1:]
    made.action, made.words = action, rest
    return made


# --- how many processes start


def launch(made: Started, gpus: int = 0) -> Launch:
    """`gpus`: of one node, if a scheduler's header requests them."""
    flags = {name: word.text for name, word in made.flags.items() if word.known}
    env = {name: word.text for name, word in made.env.items() if word.known or is_secret_name(name)}
    unknown = {name: word.marked for name, word in made.env.items() if not word.known and not is_secret_name(name)}
    unknown |= {_VARIABLES.get(name, name): word.marked for name, word in made.flags.items() if not word.known}
    for name, variable in _VARIABLES.items():
        if name in flags:
            env[variable] = flags[name]
    _endpoint(made, env, unknown)
    nodes = next((flags[name] for name in NODES if name in flags), env.get("NNODES", ""))
    if ":" in nodes:
        env["MIN_NNODES"], _, env["MAX_NNODES"] = nodes.partition(":")
        nodes = env["MAX_NNODES"]
    count = whole(nodes) or (len(flags["include"].split("@")) if "include" in flags else 1)
    if devices := flags.get("include", "").rpartition(":")[2]:  # deepspeed --include localhost:0,1
        env.setdefault("CUDA_VISIBLE_DEVICES", devices)
    elif "gpu_ids" in flags and flags["gpu_ids"] != "all":
        env.setdefault("CUDA_VISIBLE_DEVICES", flags["gpu_ids"])
    launcher = made.launcher or ("torchrun" if env.get("FORCE_TORCHRUN") in ("1", "true") else "")
    processes = _processes(flags, env, count, made)
    if not processes and not made.launcher and "CUDA_VISIBLE_DEVICES" not in env and "NPROC_PER_NODE" not in unknown:
        processes = gpus
    return Launch(count, processes, launcher, env, unknown)


_HERE = ("", "localhost", "127.0.0.1", "0.0.0.0", "::1")


def _endpoint(made: Started, env: dict[str, str], unknown: dict[str, str]) -> None:
    """`--rdzv_endpoint HOST:PORT` names the first node, as `--master_addr` and `--master_port` do."""
    word = made.flags.get("rdzv_endpoint")
    if word is None:
        return
    host, colon, port = (word.text if word.known else word.marked).rpartition(":")
    host, port = (host, port) if colon else (port, "")
    if host in _HERE:
        return
    for variable, part in (("MASTER_ADDR", host), ("MASTER_PORT", port)):
        if variable in env or variable in unknown or not part or part == "0":
            continue
        (unknown if OPEN in part else env)[variable] = part


_OF_LIBRARIES = re.compile(
    r"(CUDA|NCCL|GLOO|TORCH|PYTORCH|HF|HUGGINGFACE|TRANSFORMERS|TOKENIZERS|WANDB|SWANLAB|MLFLOW|COMET|OMP|MKL|ASCEND|HCCL|NPU|ROCR?|HIP"
    r"|DS|DEEPSPEED|ACCELERATE|LLAMAFACTORY|MODELSCOPE|OPENMIND|PYTHON|LD|TRITON|XLA|UCX|FI|NVTE|FLASH|VLLM|RAY|USE|DISABLE|FORCE"
    r"|MASTER|SLURM|NNODES|NODE|NPROC|RANK|WORLD|LOCAL|MIN|MAX|RDZV|RECORD|OPTIM|TMPDIR|XDG|http|https|no_proxy|HTTP|HTTPS)(_|$)"
    r"|(NNODES|NPROC_PER_NODE|LD_LIBRARY_PATH|PYTHONPATH)$"
)  # fmt: skip
"""Names of variables that the engine, its libraries or launchers read."""


def is_for_the_run(name: str, used: Set[str]) -> bool:
    """Whether a variable is for what is started: not one that the script only keeps its own values in."""
    return is_secret_name(name) or _OF_LIBRARIES.match(name) is not None or (name not in used and not name.islower())


NODES = ("nnodes", "num_machines", "num_nodes")
PROCESSES = ("nproc_per_node", "num_gpus")
_VARIABLES = {"master_addr": "MASTER_ADDR", "master_port": "MASTER_PORT", "main_process_ip": "MASTER_ADDR",
              "main_process_port": "MASTER_PORT", "max_restarts": "MAX_RESTARTS", "rdzv_id": "RDZV_ID"}  # fmt: skip
_READ = frozenset((*NODES, *PROCESSES, *_VARIABLES, *_SWITCHES, *(
    "num_processes node_rank machine_rank include gpu_ids config_file rdzv_backend rdzv_endpoint use_env deepspeed_config_file "
    "zero_stage standalone local_addr log_dir tee redirects hostfile exclude H e i".split())))  # fmt: skip
"""Flags of launchers that are read, or that a recipe's own launch gives each node."""
_NOT_CARRIED = {"hostfile": "a recipe names no hosts: each node is started with its own rank",
           "H": "a recipe names no hosts: each node is started with its own rank",
           "exclude": "write `hardware { devices = […] }`", "e": "write `hardware { devices = […] }`"}  # fmt: skip


def not_carried(made: Started) -> list[Note]:
    """Flags of launchers that a recipe has no word for."""
    notes: list[Note] = []
    for name, word in made.flags.items():
        if name in ("hostfile", "H") and not {*NODES, "include"} & made.flags.keys():
            notes.append(Note(f"--{name}", "a recipe names no hosts: write `hardware { nodes = … }`", word.span))
        elif name in _NOT_CARRIED:
            notes.append(Note(f"--{name}", _NOT_CARRIED[name], word.span))
        elif made.launcher == "accelerate" and (why := _without_effect(name, made.flags)):
            notes.append(Note(f"--{name}", why, word.span))
        elif name not in _READ and not (made.launcher == "accelerate" and _is_carried(name, made.flags)):
            notes.append(Note(f"--{name}", f"a flag of {made.launcher} that no recipe carries", word.span))
    return notes


_NEEDED = {"fsdp_config": "use_fsdp", "deepspeed_config": "use_deepspeed"}


def _without_effect(flag: str, given: Mapping[str, Word]) -> str:
    """Why accelerate does not read a flag: settings of FSDP or DeepSpeed where neither is switched on."""
    switch = _NEEDED.get(_path(flag, set(given)).partition(".")[0], "")
    return (
        f"has no effect without `--{switch}`" if switch and switch not in given and "config_file" not in given else ""
    )


def _is_carried(flag: str, given: Mapping[str, Word]) -> bool:
    path = _path(flag, set(given))
    return not path or path.startswith("dynamo_config.") or path in catalog.passthrough_schema("accelerate")


_COUNTS = (*NODES, *PROCESSES, "num_processes")
_WORDS = ("gpu", "cpu", "auto", "xpu")  # torchrun counts what is there


def uncounted(made: Started) -> Word | None:
    """The number of nodes or processes of a command that is no number."""
    words = [word for name, word in made.flags.items() if name in _COUNTS and word.known]
    words += [made.env[name] for name in ("NNODES", "NPROC_PER_NODE") if name in made.env and made.env[name].known]
    return next(
        (
            word
            for word in words
            if word.text not in _WORDS
            and any((whole(part) or 0) > _MOST or whole(part) is None for part in word.text.split(":"))
        ),
        None,
    )


_MOST = 10**6
"""More processes than anybody has."""


def _processes(flags: Mapping[str, str], env: Mapping[str, str], nodes: int, made: Started) -> int:
    own = next((flags[name] for name in PROCESSES if name in flags), env.get("NPROC_PER_NODE", ""))
    if (processes := whole(own)) is not None:
        return processes
    if made.launcher == "torchrun" and "nproc_per_node" not in made.flags:
        return 1
    return (whole(flags.get("num_processes", "")) or 0) // nodes


# --- accelerate's file, or its flags as such a file


def accelerate(made: Started, root: Path, session: Session) -> Document | Word | None:
    """The file of `accelerate launch --config_file`, or its flags as such a file would have them; the word of a file that is
    not there. Raises: OSError, UnicodeDecodeError."""
    if made.launcher != "accelerate":
        return None
    if (file := made.flags.get("config_file")) is None:
        return of_flags(made)
    if not file.known:
        return file
    document = documents.document(root / file.text, file.text, session)
    return document if document is None else _over(document, of_flags(made))


def _over(document: Document, flags: Document) -> Document:
    """accelerate's file with the flags of the command, which win (accelerate/commands/launch.py)."""
    if not flags.data:
        return document
    data = dict(document.data)
    for name, value in flags.data.items():
        below = data.get(name)
        data[name] = {**below, **value} if isinstance(value, dict) and isinstance(below, Mapping) else value
    return replace(document, data=data, settings={**document.settings, **flags.settings})


def of_flags(made: Started) -> Document:
    """The flags of `accelerate launch` as a file would have them."""
    flags = {name: (scalar(word.text), word) for name, word in made.flags.items() if word.known}
    leaves: dict[str, Setting] = {}
    data: dict[str, Any] = {}
    for name, (value, word) in flags.items():
        path = _path(name, set(flags))
        if path:
            leaves[path] = Setting(path, value, f"--{name}", word.span, word.span)
            table, _, key = path.rpartition(".")
            (data.setdefault(table, {}) if table else data)[key] = value
    for switch, kind in (("use_fsdp", "FSDP"), ("use_deepspeed", "DEEPSPEED")):
        if flags.get(switch, (False,))[0] is True:
            data["distributed_type"] = kind
    return Document("accelerate launch", data, leaves, next((word.span for word in made.flags.values()), None))


def _path(flag: str, given: set[str]) -> str:
    """The key of accelerate's file that a flag sets; "" for one that only chooses how to start."""
    if flag in ("use_fsdp", "use_deepspeed", "multi_gpu", "config_file", "m", "module", "no_python", "debug", "quiet"):
        return ""
    if flag == "dynamo_backend" or flag.startswith("dynamo_"):
        return f"dynamo_config.{flag}"
    known = catalog.passthrough_schema("accelerate")
    return next(
        (path for path in (f"fsdp_config.{flag}", f"deepspeed_config.{flag}") if path in known and flag not in known),
        flag,
    )
