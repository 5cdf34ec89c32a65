"""What rules check: one invocation of an engine, written as a recipe, YAML, JSON or command line.

From a file: `Config(form="yaml", source=…, settings={name: Setting(name, value, name, span, key)})`. `span` and `key` are
the spans of value and key in the author's own file, so that messages and fixes apply there. `settings` holds only what
the author wrote: rules use `config.value(name)`, which falls back to the engine's default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal, TypeAlias

from ftdsl import catalog
from ftdsl.catalog.trainers import trainer_schema
from ftdsl.recipe.rows import Look
from ftdsl.record import frozen
from ftdsl.source import Span

Form: TypeAlias = Literal["recipe", "yaml", "json", "command"]
Kind: TypeAlias = Literal["train", "export", "chat"]
Output: TypeAlias = Literal["", "nothing", "checkpoint", "model"]


@frozen
class Setting:
    """One parameter with its value.

    name: the engine's (`lora_rank`), dotted in a document (`zero_optimization.stage`);
    value: plain, as in YAML or JSON; a comma-separated list stays one string;
    word: as the author writes it: `lora.rank` in a recipe, `lora_rank` in a YAML, `--lora_rank` on a command line;
    span, key: spans of value and key in the author's file; None without one (a choice of the plan);
    is_explicit: False for a default of the language or a choice of the plan.
    """

    name: str
    value: Any
    word: str
    span: Span | None = None
    key: Span | None = None
    is_explicit: bool = True

    @property
    def text(self) -> str:
        """The value as the author wrote it."""
        return self.span.text if self.span else str(self.value)


@frozen
class Document:
    """A nested configuration file next to the parameters: DeepSpeed's or accelerate's.

    title: its name (`ds_config.json`); data: the whole document, plain;
    settings: every leaf and every table by dotted path (`zero_optimization.stage`), in the document's order;
    ours: generated from a recipe, so that its settings carry the keys of the recipe.
    """

    title: str
    data: Mapping[str, Any]
    settings: Mapping[str, Setting] = field(default_factory=dict)
    span: Span | None = None
    ours: bool = False

    def get(self, path: str, default: Any = None) -> Any:
        """The value at a dotted path, or `default` if any part of it is missing."""
        value: Any = self.data
        for name in path.split("."):
            if not isinstance(value, Mapping) or name not in value:
                return default
            value = value[name]
        return value

    def at(self, path: str) -> Setting:
        """The setting at a path; if it is missing, a setting with the span of its nearest table."""
        setting = self.settings.get(path)
        if setting is not None:
            return setting
        parent = path.rpartition(".")[0]
        span = self.at(parent).key if parent else self.span
        return Setting(path, None, path, span, span, is_explicit=False)


COUNTS = (
    "nnodes",
    "num_machines",
    "num_nodes",
    "NNODES",
    "nproc_per_node",
    "num_gpus",
    "NPROC_PER_NODE",
    "num_processes",
)
"""Flags and variables that say how many processes start."""


@frozen
class Launch:
    """How the engine's processes are launched.

    processes: per node, 0 if unknown (a YAML alone does not show it); launcher: torchrun, accelerate, deepspeed, ray,
    python, "" if unknown; env: environment variables of the launch; unknown: flags and variables that are set outside of the
    script, as they are written.
    """

    nodes: int = 1
    processes: int = 0
    launcher: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)

    @property
    def world(self) -> int:
        """Number of ranks; 0 if unknown."""
        return 0 if any(name in self.unknown for name in COUNTS) else self.nodes * self.processes


@frozen
class Dataset:
    """A data set of the run.

    name: as in `dataset`; part: `train` or `eval`; entry: of dataset_info.json, None if missing; known: names in that
    file; file: its path if local; exists: whether it does (None: not checked); columns: of its first row; rows: their
    number, if counted; lengths: percentile -> tokens, if measured; setting: the setting that names it;
    looks: the first rows of its files, held against its entry.
    """

    name: str
    part: Literal["train", "eval"] = "train"
    entry: Mapping[str, Any] | None = None
    known: Sequence[str] = ()
    file: str = ""
    exists: bool | None = None
    columns: Sequence[str] = ()
    rows: int | None = None
    lengths: Mapping[int, int] = field(default_factory=dict)
    setting: Setting | None = None
    looks: Sequence[Look] = ()


@frozen
class Ancestry:
    """The origin of the model, if a recipe defines it.

    base: hub id or path of the base model; adapters: how many it starts with; scratch: it starts with random weights.
    """

    base: str = ""
    adapters: int = 0
    scratch: bool = False


@frozen
class Config:
    """One invocation of an engine.

    kind: which of the engine's entry points reads it: `train` (also evaluation and prediction), `export`, `chat`
    (inference and serving); form: how it was written; title: the stage of a recipe, the file's name otherwise;
    span: for findings that concern no single parameter;
    deepspeed, accelerate: their documents, None without; launch: None if unknown;
    gpu: the GPU's name in the catalogue, "" for CPU, None if unknown; gpus: how many, 0 if unknown;
    versions: package -> version in force (empty: unknown);
    unknown: parameters whose value an earlier rule rejected: rules that need one are skipped;
    output: content of `output_dir` (a checkpoint of an earlier run, a finished model), "" if not checked: a recipe writes
    to a new run folder;
    installed: distributions of the engine's environment, None if unknown;
    adapter_bases: path of a local adapter -> the base model in its adapter_config.json;
    adapters_of_parameters: local adapters on fused experts (`target_parameters` in their adapter_config.json);
    reward_form: what the local folder of a reward model holds: `classifier`, `value head`, "" if unknown;
    adapters_below: path of an adapter -> the adapters it was trained on top of, if known;
    architecture: transformers' model_type of the model, "" if unknown; layers: their number, 0 if unknown; window: the positions
    that it knows, 0 if unknown;
    trainer: the verb of the engine's command line that it is for (`dpo`), "" for an engine without such verbs.
    """

    settings: Mapping[str, Setting]
    span: Span | None
    engine: str
    title: str = ""
    kind: Kind = "train"
    form: Form = "yaml"
    deepspeed: Document | None = None
    accelerate: Document | None = None
    launch: Launch | None = None
    gpu: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    datasets: Sequence[Dataset] = ()
    ancestry: Ancestry | None = None
    unknown: frozenset[str] = frozenset()
    output: Output = ""
    installed: frozenset[str] | None = None
    adapter_bases: Mapping[str, str] = field(default_factory=dict)
    adapters_below: Mapping[str, Sequence[str]] = field(default_factory=dict)
    adapters_of_parameters: frozenset[str] = frozenset()
    reward_form: str = ""
    architecture: str = ""
    layers: int = 0
    window: int = 0
    trainer: str = ""

    def has(self, name: str) -> bool:
        """Whether it is set: by the author, the language or the plan. `null` counts as not set."""
        self._ask(name)
        setting = self.settings.get(name)
        return setting is not None and setting.value is not None

    def is_explicit(self, name: str) -> bool:
        """Whether the author set it."""
        return self.has(name) and self.settings[name].is_explicit

    def value(self, name: str) -> Any:
        """The value that the engine uses: the setting, else the engine's default (None for unknown parameters)."""
        self._ask(name)
        setting = self.settings.get(name)
        if setting is not None and setting.value is not None:
            return setting.value
        if name == "bf16" and self.trainer:  # trl/trainer/base_config.py: on unless fp16 is
            return not self.on("fp16")
        return self.schema.get(name, {}).get("default")

    @property
    def schema(self) -> Mapping[str, catalog.Fact]:
        """The parameters of the engine in the versions in force."""
        versions = (self.versions.get(self.engine, ""), self.versions.get("transformers", ""))
        if self.trainer:
            return trainer_schema(self.engine, self.trainer, *versions)
        return catalog.engine_schema(self.engine, *versions)

    def on(self, name: str) -> bool:
        """Whether a switch is on, in any spelling of true in YAML or on a command line."""
        return self.value(name) in (True, "true", "True", "yes", "1", 1)

    def number(self, name: str) -> float | None:
        """The value as a number, also from a string (`1e-4` in YAML is a string); None if it is not a number."""
        value = self.value(name)
        if isinstance(value, bool):
            return None
        try:
            return float(value)
        except (TypeError, ValueError):
            return None

    def items(self, name: str) -> list[str]:
        """The parts of a comma-separated value, as the engine splits it."""
        value = self.value(name)
        if value is None:
            return []
        return [str(item).strip() for item in (value if isinstance(value, list) else str(value).split(","))]

    def at(self, name: str) -> Setting:
        """The setting of that name; if it is not set, a setting with the span of the whole invocation."""
        setting = self.settings.get(name)
        return setting or Setting(name, self.value(name), self.word(name), self.span, None, is_explicit=False)

    def first(self, *names: str) -> Setting:
        """The first of these that the author set, else the first that is set: the place for a message."""
        for name in names:
            if self.is_explicit(name):
                return self.at(name)
        return next((self.at(name) for name in names if self.has(name)), self.at(names[0]))

    def word(self, name: str) -> str:
        """A parameter as the author writes or would write it."""
        setting = self.settings.get(name)
        if setting is not None and setting.is_explicit:
            return setting.word
        if self.form == "recipe":
            parameter_status = catalog.parameter_status(self.engine, name)
            return parameter_status.word if parameter_status and parameter_status.word else name
        return f"--{name}" if self.form == "command" else name

    @property
    def stage(self) -> str:
        """The engine's name of the training stage: pt, sft, rm, ppo, dpo, kto."""
        return self.trainer or str(self.value("stage"))

    @property
    def trains(self) -> bool:
        return self.kind == "train" and (bool(self.trainer) or self.on("do_train"))

    @property
    def zero(self) -> int | None:
        """The ZeRO stage; None without DeepSpeed, or when its file was not read."""
        if self.deepspeed is None:
            return None
        stage = self.deepspeed.get("zero_optimization.stage", 0)
        return stage if isinstance(stage, int) else None

    @property
    def fsdp(self) -> int | None:
        """1 or 2 if accelerate or transformers shard with FSDP, else None."""
        if self.accelerate is not None and self.accelerate.get("distributed_type") == "FSDP":
            return 2 if self.accelerate.get("fsdp_config.fsdp_version", 1) == 2 else 1
        if not self.value("fsdp"):
            return None
        options = self.value("fsdp_config")
        return 2 if isinstance(options, Mapping) and options.get("version") == 2 else 1

    def version(self, package: str) -> tuple[int, ...]:
        """A package's version as numbers, (5, 6, 0); empty if unknown."""
        return catalog.numbers(self.versions.get(package, ""))

    def _ask(self, name: str) -> None:
        if name in self.unknown:
            raise UnknownError(name)


class UnknownError(Exception):
    """A rule needs a value that an earlier rule rejected; the rule is skipped."""
