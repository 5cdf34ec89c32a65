"""The view that rules are given: one invocation of an engine, whoever wrote it.

How to make one from a file: `Config(form="yaml", source=…, settings={name: Setting(name, value, name, span, key)})`.
`span` is the value's place, `key` the key's; both in the author's own file, so that messages and fixes land there.
Only what the author wrote goes into `settings`: rules ask `config.value(name)`, which falls back on the engine's default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal, TypeAlias

from ftdsl import catalog
from ftdsl.record import frozen
from ftdsl.source import Span

Form: TypeAlias = Literal["recipe", "yaml", "json", "command"]
Kind: TypeAlias = Literal["train", "export", "chat"]
Output: TypeAlias = Literal["", "nothing", "checkpoint", "model"]


@frozen
class Setting:
    """One parameter that somebody set.

    name: the engine's (`lora_rank`); of a document dotted (`zero_optimization.stage`);
    value: plain, as YAML or JSON has it; a comma-separated list stays one text;
    word: what the author wrote there: `lora.rank` in a recipe, `lora_rank` in a YAML, `--lora_rank` on a command line;
    span, key: places of value and key in the author's file; None where there is none (a choice of the planner);
    is_explicit: False when it is not the author's: a default of the language, a choice of the planner.
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
    """A nested file beside the parameters: a DeepSpeed or an accelerate configuration.

    title: what the author calls it (`ds_config.json`); data: the whole document, plain;
    settings: every leaf and every table by dotted path (`zero_optimization.stage`), in the document's order;
    ours: written by the lowering from a recipe, so that its settings carry the words of the recipe.
    """

    title: str
    data: Mapping[str, Any]
    settings: Mapping[str, Setting] = field(default_factory=dict)
    span: Span | None = None
    ours: bool = False

    def get(self, path: str, default: Any = None) -> Any:
        """The value at a dotted path, or `default` where any part of it is missing."""
        found: Any = self.data
        for name in path.split("."):
            if not isinstance(found, Mapping) or name not in found:
                return default
            found = found[name]
        return found

    def at(self, path: str) -> Setting:
        """The setting at a path; for one that is not there, one that stands where its nearest table does."""
        found = self.settings.get(path)
        if found is not None:
            return found
        parent = path.rpartition(".")[0]
        place = self.at(parent).key if parent else self.span
        return Setting(path, None, path, place, place, is_explicit=False)


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
    """How the engine's processes start, as far as that is known.

    processes: of one node; 0 when not known (a YAML does not say); launcher: torchrun, accelerate, deepspeed, ray,
    python, or "" when not known; env: variables set for it; unknown: flags and variables whose value only a shell could
    tell, as they are written.
    """

    nodes: int = 1
    processes: int = 0
    launcher: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)

    @property
    def world(self) -> int:
        """Ranks; 0 when not known."""
        return 0 if any(name in self.unknown for name in COUNTS) else self.nodes * self.processes


@frozen
class Dataset:
    """What is known of one data set.

    name: as `dataset` has it; part: `train` or `eval`; entry: of dataset_info.json, None when that was not found;
    known: names in that file; file: its path if local, and whether it is there (None: not looked); columns: of its
    first row; rows: how many, if counted; lengths: percentile -> tokens, if measured; setting: where it was named.
    """

    name: str
    part: Literal["train", "eval"] = "train"
    entry: Mapping[str, Any] | None = None
    known: Sequence[str] = ()
    file: str = ""
    there: bool | None = None
    columns: Sequence[str] = ()
    rows: int | None = None
    lengths: Mapping[int, int] = field(default_factory=dict)
    setting: Setting | None = None


@frozen
class Ancestry:
    """Where the model of this invocation comes from, when a recipe says.

    base: hub id or path of the bottom; adapters: how many it starts with; scratch: it begins with random weights.
    """

    base: str = ""
    adapters: int = 0
    scratch: bool = False


@frozen
class Config:
    """One invocation of an engine.

    kind: which of the engine's entry points reads it: `train` (also evaluation and prediction), `export`, `chat`
    (inference and serving); form: who wrote it; title: `sft` of a recipe, the file's name otherwise;
    span: where a message goes that no parameter is to blame for;
    deepspeed, accelerate: documents given with it, None without; launch: None when nothing is known;
    gpu: the accelerator's catalogue name, "" for CPU, None when not known; gpus: how many, 0 when not known;
    versions: package -> version that will run it (empty: not known);
    unknown: parameters whose value an earlier error has taken: rules that ask for one stay silent;
    output: what lies in `output_dir` (a checkpoint of an earlier run, a finished model), "" when not looked: what a recipe
    trains goes into a run folder of its own, where nothing of others is;
    installed: distributions of the environment that will run it, None when that is not known;
    adapter_bases: path of an adapter that is at hand -> the base its adapter_config.json names;
    adapters_below: path of an adapter -> those that it was trained on top of, where that is told beside it;
    architecture: transformers' model_type of the model, "" when not known; layers: how many it has, 0 when not known.
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
    architecture: str = ""
    layers: int = 0

    def has(self, name: str) -> bool:
        """Whether anybody set it: the author, the language or the planner. `null` counts as not set."""
        self._ask(name)
        found = self.settings.get(name)
        return found is not None and found.value is not None

    def is_explicit(self, name: str) -> bool:
        """Whether the author set it."""
        return self.has(name) and self.settings[name].is_explicit

    def value(self, name: str) -> Any:
        """What the engine will see: what was set, else its own default (None for parameters it has not)."""
        self._ask(name)
        found = self.settings.get(name)
        if found is not None and found.value is not None:
            return found.value
        return self.schema.get(name, {}).get("default")

    @property
    def schema(self) -> Mapping[str, catalog.Fact]:
        """The parameters of the engine, in the versions that will run it."""
        return catalog.engine_schema(
            self.engine, self.versions.get(self.engine, ""), self.versions.get("transformers", "")
        )

    def on(self, name: str) -> bool:
        """Whether a switch is on, in any spelling YAML or a command line has for true."""
        return self.value(name) in (True, "true", "True", "yes", "1", 1)

    def number(self, name: str) -> float | None:
        """The value as a number, written as one or as text (`1e-4` in YAML is text); None when it is none."""
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
        """The setting of that name; for one that nobody set, one that stands where the whole invocation does."""
        found = self.settings.get(name)
        return found or Setting(name, self.value(name), self.word(name), self.span, None, is_explicit=False)

    def first(self, *names: str) -> Setting:
        """The first of these that the author set, else the first that anybody set: where a message goes."""
        for name in names:
            if self.is_explicit(name):
                return self.at(name)
        return next((self.at(name) for name in names if self.has(name)), self.at(names[0]))

    def word(self, name: str) -> str:
        """What the author calls a parameter: his own word where he set it, else the one he would write."""
        found = self.settings.get(name)
        if found is not None and found.is_explicit:
            return found.word
        if self.form == "recipe":
            parameter_status = catalog.parameter_status(self.engine, name)
            return parameter_status.word if parameter_status and parameter_status.word else name
        return f"--{name}" if self.form == "command" else name

    @property
    def stage(self) -> str:
        """The engine's name of the training stage: pt, sft, rm, ppo, dpo, kto."""
        return str(self.value("stage"))

    @property
    def trains(self) -> bool:
        return self.kind == "train" and self.on("do_train")

    @property
    def zero(self) -> int | None:
        """The ZeRO stage; None without DeepSpeed, or when its file was not read."""
        if self.deepspeed is None:
            return None
        stage = self.deepspeed.get("zero_optimization.stage", 0)
        return stage if isinstance(stage, int) else None

    @property
    def fsdp(self) -> int | None:
        """1 or 2 when accelerate or transformers shard with FSDP, else None."""
        if self.accelerate is not None and self.accelerate.get("distributed_type") == "FSDP":
            return 2 if self.accelerate.get("fsdp_config.fsdp_version", 1) == 2 else 1
        if not self.value("fsdp"):
            return None
        options = self.value("fsdp_config")
        return 2 if isinstance(options, Mapping) and options.get("version") == 2 else 1

    def version(self, package: str) -> tuple[int, ...]:
        """A package's version as numbers, (5, 6, 0); empty when it is not known."""
        return catalog.numbers(self.versions.get(package, ""))

    def _ask(self, name: str) -> None:
        if name in self.unknown:
            raise UnknownError(name)


class UnknownError(Exception):
    """A rule asked for a value that an earlier error has taken: it cannot judge, and says nothing."""
