"""One trial: the recipe with its dimensions set, checked, planned, compiled, and carried out in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ftdsl.diagnostics import Diagnostic, Severity
from ftdsl.language.resolve.dimensions import Dimension
from ftdsl.language.resolve.resolve import Options, Trial, resolve
from ftdsl.observe.progress import RunProgress, Status
from ftdsl.pipeline import compile_recipe
from ftdsl.plan import measured
from ftdsl.recipe.build import build
from ftdsl.recipe.search import space_of
from ftdsl.record import replace
from ftdsl.search.samplers import PROFILE
from ftdsl.search.values import Curve
from ftdsl.session import Session
from ftdsl.targets.compiled import Compiled


@dataclass(frozen=True)
class TrialSource:
    """The recipe that is searched, as a trial is made of it. target: what starts the stages, "" for what the recipe says."""

    path: Path
    options: Options
    engine_python: str = ""
    frozen: bool = False
    target: str = ""

    def session(self) -> Session:
        """A session that plans every trial of a study alike: without measurements, which each run would add to."""
        session = Session(engine_python=self.engine_python)
        session.env = {**session.env, measured.VARIABLE: "none"}
        return session

    def compiled(self, trial: Trial | None, session: Session) -> Compiled | None:
        """The recipe at a trial's values; None with the reasons in the session's sink."""
        options = replace(self.options, trial=trial) if trial else self.options
        return compile_recipe(self.path, options, session, frozen=self.frozen, study=True, target=self.target)

    def open_dimensions(self, trial: Trial) -> Mapping[str, Dimension]:
        """Dimensions that a trial has at its values and has no value for: which there are may depend on those before."""
        session = self.session()
        resolved = resolve(self.path, self.path.as_posix(), replace(self.options, trial=trial), session)
        if resolved is None:
            return {}
        space = space_of(build(resolved, self.path.parent, session))
        unset = {name: dimension for name, dimension in space.items() if name not in trial.values}
        return {PROFILE: unset[PROFILE]} if PROFILE in unset else unset


def named(number: int) -> str:
    """What `{run}` is in a trial."""
    return f"trial={number}"


def folder_name(number: int) -> str:
    return f"{number:04d}"


def values_for(
    source: TrialSource, number: int, space: Mapping[str, Dimension], suggest: Callable[[Dimension], str]
) -> Trial:
    """A trial with a value for each dimension. space: what the recipe has before any is chosen."""
    values: dict[str, str] = {}
    todo = {PROFILE: space[PROFILE]} if PROFILE in space else space
    while todo:
        values |= {name: suggest(dimension) for name, dimension in todo.items()}
        todo = source.open_dimensions(Trial(named(number), values)) if PROFILE in space else {}
    return Trial(named(number), values)


def representative(source: TrialSource) -> tuple[Compiled | None, Session]:
    """The recipe at values for which it can run, to find out what is wrong whatever is chosen. Part of a space may not fit."""
    session = source.session()
    compiled = source.compiled(None, session)
    if compiled is not None:
        return compiled, session
    resolved = resolve(source.path, source.path.as_posix(), source.options, source.session())
    spaces = (
        {}
        if resolved is None
        else {n: dimension for stage in resolved.stages for n, dimension in stage.dimensions.items()}
    )
    for values in _corners(spaces):
        other = source.session()
        if compiled := source.compiled(Trial(named(0), values), other):
            return compiled, other
    return None, session


def _corners(space: Mapping[str, Dimension]) -> list[dict[str, str]]:
    """All at their highest, all in the middle, and each choice and each end of a range by itself."""
    high, middle = {}, {}
    for name, dimension in space.items():
        choices = dimension.choices
        high[name] = choices[-1] if choices else dimension.text(dimension.high)
        center = (dimension.low + dimension.high) / 2
        middle[name] = choices[len(choices) // 2] if choices else dimension.text(center)
    points = [high, middle]
    for name, dimension in space.items():
        points += [{name: text} for text in dimension.choices or (dimension.text(dimension.high),)]
    return points[:40]


def reason_of(diagnostics: list[Diagnostic]) -> str:
    """Why a trial cannot be run, or failed: its first error."""
    errors = [diagnostic for diagnostic in diagnostics if diagnostic.severity is Severity.ERROR]
    return errors[0].message if errors else ""


@dataclass
class TrialView:
    """Watches one trial for its study: reports values on the way and asks whether to go on. `pruned`: it was not to.

    judge: given a step, the value there, and the steps of the training (0: not known).
    """

    note_to: Callable[[str], None]
    changed: Callable[[RunProgress], None]
    judge: Callable[[int, float, int], bool]
    curve: Curve | None
    stop: Callable[[], None]
    pruned: bool = False
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)
        if text.startswith("warning"):
            self.note_to(text)

    def begin(self, run: RunProgress, now: float) -> None:
        self.changed(run)

    def update(self, run: RunProgress, now: float) -> None:
        if self.curve is None or self.pruned:
            return
        for step, value in self.curve.new(run):
            total = self.curve.total(run)
            if self.judge(step, value, total) and step != total and run.having(Status.RUNNING):
                self.pruned = True
                self.stop()
                return

    def end(self, run: RunProgress, now: float) -> None:
        if self.curve is not None and not self.pruned:
            for step, value in self.curve.new(run):
                self.judge(step, value, self.curve.total(run))
