"""A stage while it is imported: keys collected from parameters, and a note on everything that is not carried over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any

from ftdsl.catalog.vocabulary import TRAINING, vocabulary
from ftdsl.credentials import masked
from ftdsl.importers.recipe_paths import RecipePaths
from ftdsl.language.printing import comment
from ftdsl.language.values import StageRef
from ftdsl.lint.config import Config, Setting
from ftdsl.printable import shortened
from ftdsl.record import frozen, mutable, replace
from ftdsl.source import Span


@frozen
class Note:
    """A note for the user. word: as written in the file; text: why it was not carried over (or how it was)."""

    word: str
    text: str
    span: Span | None = None
    carried: bool = False

    @property
    def where(self) -> str:
        return self.span.location if self.span else ""

    def without(self, secrets: Iterable[str]) -> Note:
        """The same on one line, without these values and what has the shape of a credential, no longer than a person reads."""
        word, text = (comment(masked(part, secrets, names=False)) for part in (self.word, self.text))
        return replace(self, word=shortened(word, 80), text=shortened(text, 400))


@frozen(eq=True)
class Axis:
    """Values of a key, one run each (`lr in [1e-5, 1e-4]`)."""

    items: tuple[Any, ...]


_HOLES = {"model": ("base", "model"), "data": ("rows", "data")}
"""Key -> the parameter of the recipe that asks for it, its type."""


@mutable
class StageDraft:
    """One stage in the making: `values` by dotted key, `blocks` that are opened even when empty.

    `used`: parameters that have been dealt with; `remarks`: a comment behind a key; `passed`: for the passthrough block;
    `results`: stages of this import by the path of their result; `reasons`: why a silent parameter will differ;
    `holes`: parameters the recipe asks for, with their type, where nothing named a model or data, or only a running script
    would; `samples`: a value to compile with, where the type alone does not give one.
    """

    config: Config
    kind: str
    paths: RecipePaths
    results: Mapping[str, StageRef] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    blocks: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    remarks: dict[str, str] = field(default_factory=dict)
    passed: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    parents: list[str] = field(default_factory=list)
    holes: dict[str, str] = field(default_factory=dict)
    samples: dict[str, str] = field(default_factory=dict)

    @property
    def engine(self) -> str:
        return self.config.engine

    @property
    def training(self) -> bool:
        return self.kind in TRAINING

    def setting(self, name: str) -> Setting | None:
        return self.config.settings.get(name)

    def given(self, *names: str) -> bool:
        """Whether any of these parameters is set in the file, also to `null`."""
        return any(name in self.config.settings for name in names)

    def take(self, name: str) -> Any:
        """The value a parameter has (given, or the engine's default); it counts as dealt with."""
        self.used.add(name)
        return self.config.value(name)

    def raw(self, name: str) -> Any:
        """The value that was given, None when none was."""
        self.used.add(name)
        setting = self.setting(name)
        return setting.value if setting else None

    def on(self, name: str) -> bool:
        """A switch that was turned on."""
        self.used.add(name)
        return self.config.on(name)

    def set(self, key: str, value: Any, remark: str = "") -> None:
        """Set a key of the language; the first value wins."""
        if key not in self.values:
            self.values[key] = value
            if remark:
                self.remarks[key] = remark

    def note(self, name: str, text: str, *, carried: bool = False) -> None:
        """Note why a parameter was not carried over, or what it became; none for one that the import added itself."""
        self.used.add(name)
        setting = self.setting(name)
        self.reasons.setdefault(name, text)
        if setting and not setting.is_explicit:
            return
        word = setting.word if setting else name
        span = (setting.key or setting.span) if setting else None
        self.notes.append(Note(word, text, span, carried))

    def may_have(self, key: str) -> bool:
        """Whether a stage of this kind has the key."""
        block, dot, name = key.rpartition(".")
        if not dot:
            return key in vocabulary().keys_of(self.kind)
        known_block = vocabulary().block(block)
        return self.kind in known_block.contexts and (bool(known_block.open) or name in known_block.keys)

    def ask_for(self, key: str, parameter: str) -> StageRef:
        """A model or data that no engine's parameter names, as a `param` of the recipe without a value; noted once."""
        name, kind = _HOLES[key]
        if name not in self.holes:
            self.holes[name] = kind
            self.reasons[parameter] = "nothing named one"
            text = f"nothing names one, and the engine would refuse to start: give it with `-p {name}=…`"
            self.notes.append(Note(parameter, text, carried=True))
        return StageRef(name)

    def env(self, name: str) -> str:
        """A variable the command was started with, "" without."""
        return self.config.launch.env.get(name, "") if self.config.launch else ""

    def default(self, name: str) -> Any:
        """The engine's own default of a parameter."""
        return replace(self.config, settings={}).value(name) if name in self.config.schema else None
