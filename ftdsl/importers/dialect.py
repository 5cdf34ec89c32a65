"""What an import knows of one engine: which invocations are stages, and how parameters become keys.

A dialect is one object for each engine whose own files are read (`dialects.of`); everything else of an import is common.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from ftdsl.importers.draft import Note, StageDraft
from ftdsl.lint.config import Config
from ftdsl.record import frozen

if TYPE_CHECKING:
    from ftdsl.engines.jobs import Job
    from ftdsl.importers.recipe_paths import RecipePaths
    from ftdsl.importers.verify import Difference

Inverse: TypeAlias = Callable[[StageDraft], None]
"""Claims parameters of a draft, and sets the keys they mean."""


@frozen
class Named:
    """An invocation with the engine's own names of parameters and values; notes and reasons about those that had others."""

    config: Config
    notes: Sequence[Note] = ()
    reasons: Mapping[str, str] = {}


@frozen
class Dialect:
    """One engine's files, read backwards.

    kinds: the kinds of stages in one invocation, in order (empty: no stage, such as a chat);
    no_stage: the trainer an invocation names and that no stage stands for; "" if there is a stage; stages: those there are;
    named: an invocation with the engine's own names;
    begin: the method, precision, and whatever decides what other parameters mean; rules: the inverses of the lowerings, in the
    order in which parameters are claimed; end: what the engine requires or does in silence;
    shared: keys of an invocation that is no stage;
    holes: key without which there is no recipe -> the parameter that would have set it;
    compare: (invocation, kind, compiled job, paths, excused parameters) -> each difference.
    """

    engine: str
    title: str
    kinds: Callable[[Config], tuple[str, ...]]
    no_stage: Callable[[Config], str]
    stages: str
    named: Callable[[Config], Named]
    begin: Inverse
    rules: tuple[Inverse, ...]
    end: Inverse
    shared: Inverse
    holes: Mapping[str, str]
    compare: Callable[[Config, str, Job, RecipePaths, Mapping[str, str]], list[Difference]]
