"""A recipe that searches, carried out: what all trials share, then the trials, then the recipe with the best values."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from ftdsl.language.resolve.resolve import Trial
from ftdsl.language.values import Amount
from ftdsl.observe.progress import RunProgress, View
from ftdsl.observe.study import NAME as PICTURE
from ftdsl.observe.study import TrialRow, encoded, headline, parameters_text, values_text
from ftdsl.recipe.search import goals_of, needed, reached
from ftdsl.run.carry_out import carry_out
from ftdsl.run.environments import Environment
from ftdsl.run.launchers.local import LocalLauncher, identity
from ftdsl.run.launchers.registry import launcher_for
from ftdsl.run.outcome import INTERRUPTED, Outcome
from ftdsl.run.preload import Preload
from ftdsl.run.prepare import Wishes, hourly_prices
from ftdsl.run.resources import visible_gpus
from ftdsl.run.stop import Stop
from ftdsl.run.store import BusyError, holder_of
from ftdsl.search.driver import PAUSE, Driver
from ftdsl.search.errors import MissingPackageError, StudyError
from ftdsl.search.halving import halving_of
from ftdsl.search.settings import best_settings
from ftdsl.search.spending import Spending
from ftdsl.search.study import OpenStudy, open_study
from ftdsl.search.trial import TrialSource, named
from ftdsl.search.values import watched_by
from ftdsl.storage import write_file
from ftdsl.targets.compiled import Compiled


def search(
    source: TrialSource,
    base: Compiled,
    environments: Mapping[str, Environment],
    view: View,
    *,
    stop: Stop,
    home: Path,
    fresh: bool = False,
    side_by_side: int | None = None,
    preload: bool = True,
) -> Outcome:
    """base: the recipe at typical values; home: where its runs lie; fresh: a new study; preload: import the engine once for all
    trials, where they are forks of it.

    Raises: BusyError while another process drives the study (and its storage takes one alone), OSError.
    """
    outcome = Outcome(compiled=base)
    try:
        study = open_study(base.plan.recipe, home, fresh=fresh)
    except (StudyError, MissingPackageError) as error:
        if isinstance(error, StudyError):
            outcome.problems.append(error.diagnostic)
        outcome.message = str(error)
        if isinstance(error, MissingPackageError):
            view.note(f"error: {error}")
        return outcome.ended(1)
    with _driving(study, home), _preloaded(base, environments, study.folder, preload) as served:
        _search(study, source, base, environments, view, outcome, stop, home, side_by_side, served)
    return outcome


def _search(
    study: OpenStudy,
    source: TrialSource,
    base: Compiled,
    environments: Mapping[str, Environment],
    view: View,
    outcome: Outcome,
    stop: Stop,
    home: Path,
    side_by_side: int | None,
    served: Preload,
) -> None:
    quiet = _Quiet(view)

    def carried(compiled: Compiled, only: tuple[str, ...]) -> Outcome:
        wishes = Wishes(only=only, side_by_side=side_by_side)
        return carry_out(compiled, wishes, environments, quiet, stop=stop, home=home, preload=served)

    shared = _shared_stages(base)
    if shared and (run := _shared(shared, base, carried, stop, view)).status != 0:
        outcome.problems, outcome.progress, outcome.unexplained = run.problems, run.progress, run.unexplained
        outcome.ended(run.status)
        return
    _remember(home)
    recipe = base.plan.recipe
    assert recipe.search is not None
    limit = recipe.search.get("timeout")
    seconds = limit.number if isinstance(limit, Amount) else limit
    driver = Driver(
        study, source, environments, home, view.note, stop, trials_at_once(base, view.note),
        time.monotonic() + float(seconds) if seconds else None, shared,
        Spending.of(recipe.budget, hourly_prices(base.plan), needed(recipe, (goal.stage for goal in goals_of(recipe)))),
        served, halving_of(recipe),
    )  # fmt: skip
    _announce(study, recipe, view)
    view.begin(RunProgress(home.name, study.folder.name, study.folder), time.time())
    driver.run()
    outcome.study = driver.picture(force=True)
    assert outcome.study is not None
    view.note(headline(outcome.study) + (f"; {driver.over}" if driver.over else ""))
    best = outcome.study.best
    if stop.requests:
        outcome.ended(INTERRUPTED)
    elif best is None:
        outcome.message = f"no trial has ended with a value{f': {driver.over}' if driver.over else ''}"
        outcome.ended(1)
    else:
        outcome.study = replace(outcome.study, settings=best_settings(source, recipe, best))
        write_file(study.folder / PICTURE, encoded(outcome.study))
        _with_best(best, outcome, source, carried, view)


def trials_at_once(base: Compiled, note: Callable[[str], None]) -> int:
    """Trials at once: on this machine no more than its GPUs carry, since each was planned for GPUs of its own."""
    recipe, launcher = base.plan.recipe, launcher_for(base.target)
    wanted = int(recipe.search.get("parallel") or 1) if recipe.search else 1
    if wanted == 1 or launcher is None or launcher.name != LocalLauncher.name:
        return wanted
    keys = needed(recipe, (goal.stage for goal in goals_of(recipe))) & reached(recipe)
    each = max((job.accelerators for job in base.jobs if job.key in keys), default=0)
    gpus = len(visible_gpus(dict(os.environ))) if each else 0
    room = max(1, gpus // each) if gpus else wanted
    if room < wanted:
        note(f"{room} trial{'s' * (room > 1)} at once, not {wanted}: each takes {each} of {gpus} GPUs")
    return min(wanted, room)


@contextmanager
def _preloaded(
    base: Compiled, environments: Mapping[str, Environment], folder: Path, wanted: bool
) -> Iterator[Preload]:
    """The engine, imported once for all trials that this machine runs."""
    served = Preload(folder, environments, fewest=1)
    launcher = launcher_for(base.target)
    if wanted and launcher is not None and launcher.name == LocalLauncher.name:
        keys = needed(base.plan.recipe, (goal.stage for goal in goals_of(base.plan.recipe)))
        folder.mkdir(parents=True, exist_ok=True)
        served.start([job for job in base.jobs if job.key in keys], os.environ, folder / "preloaded.log")
    try:
        yield served
    finally:
        served.close()


def _announce(study: OpenStudy, recipe: object, view: View) -> None:
    spaces = ", ".join(f"{dimension.name} ~ {dimension.space}" for dimension in study.space.values())
    known = len(study.trials())
    begun = f", {known} of them begun before" if known else ""
    view.note(f"study {study.folder.as_posix()}: {study.wanted} trials{begun} over {spaces}")
    search = study.recipe.search
    if search is not None and search.name("pruner") not in ("", "none"):
        watched = watched_by(study.goals[0], study.recipe)
        what = "paused and continued" if halving_of(study.recipe) else "pruned"
        view.note(f"trials are {what} by {watched}" if watched else "no stage reports on the way: nothing is pruned")


def _shared_stages(base: Compiled) -> tuple[str, ...]:
    """Keys of the jobs that goals need and no dimension reaches."""
    recipe = base.plan.recipe
    wanted = needed(recipe, (goal.stage for goal in goals_of(recipe)))
    touched = set(reached(recipe))
    for job in base.jobs:  # each comes after what it needs
        if touched & set(job.needs):
            touched.add(job.key)
    return tuple(job.key for job in base.jobs if job.key in wanted and job.key not in touched)


Carried = Callable[[Compiled, tuple[str, ...]], Outcome]
"""Carries out stages around the trials: those of these keys, all without a key. Raises: BusyError."""


def _shared(keys: tuple[str, ...], base: Compiled, carried: Carried, stop: Stop, view: View) -> Outcome:
    """The stages of all trials, once. Another worker may be at them: it is waited for."""
    view.note(f"once for all trials: {', '.join(keys)}")
    while True:
        try:
            return carried(base, keys)
        except BusyError:
            if stop.requests:
                return Outcome(compiled=base).ended(INTERRUPTED)
            time.sleep(PAUSE)


def _with_best(best: TrialRow, outcome: Outcome, source: TrialSource, carried: Carried, view: View) -> None:
    """The whole recipe with the best values: what the trial has done is done, the rest is carried out."""
    assert outcome.study is not None
    view.note(f"best: trial {best.number}, {values_text(best, outcome.study)}; {parameters_text(best)}")
    session = source.session()
    compiled = source.compiled(Trial(named(best.number), best.parameters), session)
    if compiled is None:
        outcome.problems = session.sink.ordered()
        outcome.message = "the recipe cannot be run with the best values"
        outcome.ended(1)
        return
    try:
        run = carried(compiled, ())
    except BusyError:
        view.note("another worker runs the recipe with the best values")
        outcome.ended(0)
        return
    outcome.progress, outcome.problems, outcome.unexplained = run.progress, run.problems, run.unexplained
    outcome.compiled = compiled
    outcome.ended(run.status)


class _Quiet:
    """Stages around the trials, as lines."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._known: dict[str, str] = {}

    def note(self, text: str) -> None:
        self._view.note(text)

    def begin(self, run: RunProgress, now: float) -> None:
        self._known = {}

    def update(self, run: RunProgress, now: float) -> None:
        for stage in run.stages:
            if (
                stage.status.value in ("done", "failed", "refused", "running")
                and self._known.get(stage.key) != stage.status.value
            ):
                self._known[stage.key] = stage.status.value
                self._view.note(f"{stage.folder}: {stage.status.value}{f': {stage.message}' if stage.message else ''}")

    def end(self, run: RunProgress, now: float) -> None:
        self.update(run, now)


@contextmanager
def _driving(study: OpenStudy, home: Path) -> Iterator[None]:
    """One process drives a study in a file; a server takes several. Raises: BusyError."""
    study.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(study.folder / ".driver", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        if not study.shared:
            known = holder_of(home)
            raise BusyError(
                f"process {known[0] if known else '?'} runs `{home.name}` already; type: ftc watch, ftc attach or ftc cancel"
            ) from None
        yield
        return
    try:
        yield
    finally:
        (home / ".pid").unlink(missing_ok=True)
        lock.release()


def _remember(home: Path) -> None:
    """Who drives the study, for `ftc status` and `ftc cancel`."""
    write_file(home / ".pid", f"{' '.join(map(str, identity(os.getpid())))}\n".encode())
