"""The loop of a study: trials chosen, checked, carried out side by side, told; until enough have ended, or it is stopped.

Optuna's `ask` and `tell` are called under one lock. A trial belongs to the worker that holds the lock in its folder: one whose
worker was killed is continued by the next, under its number, with what its stages left.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.diagnostics import Severity
from ftdsl.language.resolve.resolve import Trial
from ftdsl.observe.progress import RunProgress
from ftdsl.observe.study import NAME as PICTURE
from ftdsl.observe.study import StudyPicture, TrialRow, encoded, parameters_text, values_text
from ftdsl.run.carry_out import carry_out, environments_of
from ftdsl.run.environments import Environment, NoEngineError
from ftdsl.run.launchers.gathered import Gathered, gathered
from ftdsl.run.launchers.local import LocalLauncher
from ftdsl.run.launchers.registry import launcher_for
from ftdsl.run.outcome import INTERRUPTED, Outcome
from ftdsl.run.preload import Preload
from ftdsl.run.prepare import StillRunningError, Wishes
from ftdsl.run.project import claim_trial
from ftdsl.run.resources import visible_gpus
from ftdsl.run.stop import Stop
from ftdsl.run.store import BusyError
from ftdsl.runtime.events import SAVE_ANSWER, SAVE_REQUEST
from ftdsl.search.attributes import REASON, RELEASED, RUN, SPENT, STATE, STEPS, SURPLUS, VALUES, WORKER
from ftdsl.search.halving import Halving, continued, last_step, number_of
from ftdsl.search.samplers import suggested
from ftdsl.search.spending import Spending, seconds_of
from ftdsl.search.storage import HEARTBEAT
from ftdsl.search.study import OpenStudy
from ftdsl.search.trial import TrialSource, TrialView, folder_name, named, reason_of, values_for
from ftdsl.search.values import Curve, NoValueError, Watched, value_of, watched_by
from ftdsl.storage import write_file
from ftdsl.targets.compiled import Compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as OptunaTrial

PAUSE = 0.2
HOPELESS = 5
"""Trials that fail alike, with none that ended well, after which something else is wrong than their values."""
REFUSED = 5
"""Times as many refused trials as are wanted, after which the space has too little that can be run."""
PRUNERS_AFTER = ("patient",)


@dataclass
class Mine:
    """A trial that this worker carries out. lock: held as long as it does; taken: continued, not begun; known: the step of its
    last report before; total: steps of its training.
    """

    optuna_trial: OptunaTrial
    number: int
    trial: Trial
    home: Path
    lock: FileLock
    stop: Stop = field(default_factory=Stop)
    taken: bool = False
    known: int = -1
    total: int = 0
    began: float = field(default_factory=time.time)


@dataclass
class Driver:
    """One worker of a study. over: why the study has ended, "" where it was stopped; note: shows a sentence."""

    study: OpenStudy
    source: TrialSource
    environments: Mapping[str, Environment]
    home: Path
    note: Callable[[str], None]
    stop: Stop
    parallel: int = 1
    deadline: float | None = None
    shared_stages: tuple[str, ...] = ()
    spending: Spending = field(default_factory=Spending)
    preload: Preload | None = None
    halving: Halving | None = None
    over: str = ""
    running: dict[int, Mine] = field(default_factory=dict)
    _queues: dict[str, Gathered | None] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _errors: list[BaseException] = field(default_factory=list)
    _spent_up: bool = False
    _stale_checked: float = 0.0
    _pictured: float = 0.0
    _began: float = field(default_factory=time.time)

    def run(self) -> None:
        """Until the study has ended, or is stopped. Raises: OSError, and what a bug raises in a trial."""
        slots = [threading.Thread(target=self._slot, args=(at,), daemon=True) for at in range(self.parallel)]
        beats = threading.Thread(target=self._beat, args=(done := threading.Event(),), daemon=True)
        for thread in (*slots, beats):
            thread.start()
        while any(slot.is_alive() for slot in slots):
            time.sleep(PAUSE)
            self._heed()
            self.picture()
        done.set()
        beats.join()
        self.picture(force=True)
        if self._errors:
            raise self._errors[0]

    # --- around the trials

    def _heed(self) -> None:
        """Pass on to the trials that the host, or the time limit, stops the study."""
        late = self.deadline is not None and time.monotonic() > self.deadline
        if late and not self.over:
            self.over = "its time is up"
        wanted = max(self.stop.requests, 1 if late or self._spent_up or self._errors else 0)
        with self._lock:
            for mine in self.running.values():
                while mine.stop.requests < wanted:
                    mine.stop.stop()

    def _beat(self, done: threading.Event) -> None:
        """Signs of life of this worker's trials, for workers on other machines."""
        while not done.wait(HEARTBEAT / 2):
            with self._lock, contextlib.suppress(Exception):  # a database that is away for a while
                for mine in self.running.values():
                    self.study.optuna._storage.record_heartbeat(mine.optuna_trial._trial_id)  # type: ignore[attr-defined]

    def picture(self, *, force: bool = False) -> StudyPicture | None:
        """Write `study.json`, about once a second."""
        if not force and time.monotonic() - self._pictured < 1:
            return None
        self._pictured = time.monotonic()
        with self._lock:
            used = self._judge_spending()
            picture = self.study.picture(
                shared=list(self.shared_stages), over=self.over, began=self._began, pid=os.getpid(),
                budget=used,
            )  # fmt: skip
        write_file(self.study.folder / PICTURE, encoded(picture))
        return picture

    def _judge_spending(self) -> str:
        """What is used of the budget, in words; ends the study where that is all. Without a budget nothing is read: ""."""
        if not self.spending.limited:
            return ""
        began = {mine.number: mine.began for mine in self.running.values()}
        seconds = seconds_of(self.study.rows(), began)
        if not self.over and (why := self.spending.over(seconds)):
            self.over, self._spent_up = why, True
        return self.spending.text(seconds)

    # --- which trial is next

    def _slot(self, at: int) -> None:
        """Trials one after the other."""
        try:
            while not (self.stop.requests or self._errors or self.over):
                mine = self._next()
                if isinstance(mine, Mine):
                    try:
                        self._carry(mine, at)
                    finally:
                        with self._lock:
                            self.running.pop(mine.number, None)
                            self._keep_time(mine)
                        mine.lock.release()
                elif mine is None:
                    return
                else:
                    time.sleep(PAUSE * 5)  # others run the last ones; one may be left to us
        except BaseException as error:
            self._errors.append(error)

    def _keep_time(self, mine: Mine) -> None:
        """Add this start to the seconds of the trial; a storage that is away loses them, and nothing else."""
        storage, identity = self.study.optuna._storage, mine.optuna_trial._trial_id
        with contextlib.suppress(Exception):
            known = float(storage.get_trial(identity).user_attrs.get(SPENT, 0.0))
            storage.set_trial_user_attr(identity, SPENT, known + time.time() - mine.began)
            mine.began = time.time()

    def _next(self) -> Mine | bool | None:
        """A trial to carry out; True to ask again later, None when there is none any more."""
        with self._lock:
            self._fail_lost()
            trials = self.study.trials()
            self._judge_spending()
            if self._spent_up:
                return None
            running = [trial for trial in trials if trial.state.name == "RUNNING"]
            left = [trial for trial in running if number_of(trial) not in self.running]
            for trial in left:
                if mine := self._taken_over(trial):
                    return mine
            launched = [trial for trial in trials if trial.user_attrs.get(STATE) != "infeasible"]
            ended = [trial for trial in launched if trial.state.is_finished()]
            if mine := self._continued(trials, last=len(ended) >= self.study.wanted):
                return mine
            if len(ended) >= self.study.wanted or self._exhausted():
                self.over = self.over or "all trials have ended"
                return None
            if self._hopeless(trials, ended):
                return None
            if len(launched) >= self.study.wanted:
                return True if left or (self.halving and running) else None
            return self._new_trial()

    def _exhausted(self) -> bool:
        from optuna.samplers import GridSampler

        sampler = self.study.optuna.sampler
        return isinstance(sampler, GridSampler) and sampler.is_exhausted(self.study.optuna)

    def _hopeless(self, trials: list[FrozenTrial], ended: list[FrozenTrial]) -> bool:
        failed = [trial for trial in ended if trial.state.name == "FAIL"]
        reasons = {trial.user_attrs.get(REASON, "") for trial in failed}
        if len(failed) >= HOPELESS and len(failed) == len(ended) and len(reasons) == 1:
            self.over = f"the first {len(failed)} trials failed: {failed[-1].user_attrs.get(REASON, '')}"
        refused = [trial for trial in trials if trial.user_attrs.get(STATE) == "infeasible"]
        if len(refused) >= REFUSED * max(self.study.wanted, 10):
            self.over = f"{len(refused)} trials were refused beforehand: {refused[-1].user_attrs.get(REASON, '')}"
        return bool(self.over)

    def _fail_lost(self) -> None:
        """Trials of other machines that give no sign of life are queued again."""
        if self.study.shared and time.monotonic() - self._stale_checked > HEARTBEAT:
            from optuna.storages import fail_stale_trials

            self._stale_checked = time.monotonic()
            fail_stale_trials(self.study.optuna)

    def _home(self, number: int) -> Path:
        return self.study.folder / folder_name(number)

    def _locked(self, number: int) -> FileLock | None:
        """The lock of a trial, held; None where another worker holds it."""
        home = self._home(number)
        claim_trial(home, self.home)
        lock = FileLock(home / ".worker", timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            return None
        return lock

    def _taken_over(self, trial: FrozenTrial) -> Mine | None:
        """A trial that its worker has left, on this machine; it is continued."""
        from optuna.trial import Trial as OptunaTrial

        host = trial.user_attrs.get(WORKER)
        if host != os.uname().nodename:
            return None
        number = number_of(trial)
        lock = self._locked(number)
        if lock is None:
            return None
        optuna_trial = OptunaTrial(self.study.optuna, trial._trial_id)
        if optuna_trial._cached_frozen_trial.state.is_finished():
            lock.release()
            return None
        values = trial.user_attrs.get(VALUES)
        if not values:  # it was killed between two words with the storage: nothing was launched
            optuna_trial.set_user_attr(STATE, SURPLUS)
            self._tell(optuna_trial, "FAIL")
            lock.release()
            return None
        optuna_trial.set_user_attr(RELEASED, False)
        self.note(f"trial {number}: was left unfinished, and is continued")
        return self._mine(optuna_trial, number, values, lock, taken=True, known=last_step(trial))

    def _mine(
        self, trial: OptunaTrial, number: int, values: dict[str, str], lock: FileLock, *, taken: bool = False, known: int = -1
    ) -> Mine:  # fmt: skip
        mine = Mine(trial, number, Trial(named(number), values), self._home(number), lock, taken=taken, known=known)
        self.running[number] = mine
        return mine

    def _continued(self, trials: list[FrozenTrial], *, last: bool) -> Mine | None:
        """A paused trial that is among the best of its rung; with `last`, and none with a value, the best there is."""
        from optuna.trial import Trial as OptunaTrial

        if self.halving is None:
            return None
        last = last and not any(trial.state.name == "COMPLETE" for trial in trials)
        trial = self.halving.next(trials, os.uname().nodename, last=last)
        number = number_of(trial) if trial is not None else -1
        lock = self._locked(number) if trial is not None else None
        if trial is None or lock is None:
            return None
        if all(other._trial_id != trial._trial_id for other in self.study.trials()):  # another worker was faster
            lock.release()
            return None
        optuna_trial = OptunaTrial(self.study.optuna, continued(self.study.optuna, trial))
        self.study.optuna._storage.record_heartbeat(optuna_trial._trial_id)  # type: ignore[attr-defined]
        self.note(f"trial {number}: among the best at step {last_step(trial)}, and is continued")
        return self._mine(optuna_trial, number, trial.user_attrs[VALUES], lock, taken=True, known=last_step(trial))

    def _new_trial(self) -> Mine | bool:
        """A new trial from the sampler; True where another worker was faster."""
        optuna_trial = self.study.optuna.ask()
        lock = self._locked(optuna_trial.number)
        if lock is None:
            return True
        try:
            optuna_trial.set_user_attr(WORKER, os.uname().nodename)
            self.study.optuna._storage.record_heartbeat(optuna_trial._trial_id)  # type: ignore[attr-defined]
            trial = values_for(
                self.source, optuna_trial.number, self.study.space, lambda dimension: suggested(optuna_trial, dimension)
            )
            optuna_trial.set_user_attr(VALUES, dict(trial.values))
            before = [
                other for other in self.study.trials()
                if number_of(other) < optuna_trial.number and other.user_attrs.get(STATE) != "infeasible"
            ]  # fmt: skip
            if len(before) >= self.study.wanted:
                optuna_trial.set_user_attr(STATE, SURPLUS)
                self._tell(optuna_trial, "FAIL")
                lock.release()
                return True
        except BaseException:
            lock.release()
            raise
        return self._mine(optuna_trial, optuna_trial.number, dict(trial.values), lock)

    # --- one trial

    def _carry(self, mine: Mine, slot: int) -> None:
        session = self.source.session()
        compiled = self.source.compiled(mine.trial, session)
        if compiled is None:
            self._end(mine, "infeasible", reason_of(session.sink.ordered()))
            return
        try:
            outcome, view = self._carried_out(compiled, mine, slot)
        except BusyError:
            return  # another process is at it, and tells
        except (StillRunningError, NoEngineError) as error:
            self._end(mine, "failed", str(error))
            return
        if view.pruned and outcome.status == INTERRUPTED:
            self._end(mine, "pruned", "")
        elif outcome.status == INTERRUPTED:
            with self._lock:
                mine.optuna_trial.set_user_attr(RELEASED, True)
        elif outcome.status == 1:
            problems = [diagnostic for diagnostic in outcome.problems if diagnostic.severity is Severity.ERROR]
            self._end(mine, "failed", reason_of(problems) or "a stage failed")
        else:
            self._end_with_values(mine, outcome)

    def _carried_out(self, compiled: Compiled, mine: Mine, slot: int) -> tuple[Outcome, TrialView]:
        watched = watched_by(self.study.goals[0], compiled.plan.recipe) if len(self.study.goals) == 1 else None
        curve = Curve(watched, self._after(), mine.known) if watched else None
        session = self.source.session()
        session.env = self._env(slot, mine)
        wishes = Wishes(only=tuple(dict.fromkeys(goal.stage for goal in self.study.goals)))
        needed = {job.environment for job in compiled.jobs}
        environments = self.environments
        if needed - environments.keys():
            environments = environments_of(compiled.jobs, compiled, session.env, python=self.source.engine_python)
        view = TrialView(
            lambda text: self.note(f"trial {mine.number}: {text}"), lambda run: self._launched(mine, run),
            lambda step, value, total: self._judged(mine, step, value, total), curve,
            lambda: self._stop(mine, compiled, watched),
        )  # fmt: skip
        outcome = carry_out(
            compiled,
            wishes,
            environments,
            view,
            session=session,
            stop=mine.stop,
            home=mine.home,
            preload=self.preload,
            launcher=self._launcher(compiled.target),
        )
        return outcome, view

    def _launcher(self, target: str) -> Gathered | None:
        """The queue that trials share, so that those that start together are an array; None for a launcher for each."""
        if self.parallel == 1:
            return None
        with self._lock:
            if target not in self._queues:
                self._queues[target] = gathered(target)
            return self._queues[target]

    def _after(self) -> int:
        """Steps before which a pruner that does not count them itself is given nothing."""
        search = self.study.recipe.search
        assert search is not None
        term = search.get("pruner")
        if search.name("pruner") not in PRUNERS_AFTER or not hasattr(term, "options"):
            return 0
        return int(getattr(term.options.get("after"), "number", 0))

    def _env(self, slot: int, mine: Mine) -> dict[str, str]:
        """What a trial's stages inherit: of the cards this machine has, the slot's share; by which file they are paused."""
        files = {SAVE_REQUEST: mine.home.absolute() / ".save", SAVE_ANSWER: mine.home.absolute() / ".saved"}
        for path in files.values():
            path.unlink(missing_ok=True)
        env = {**os.environ, **{name: str(path) for name, path in files.items()}}
        cards = visible_gpus(env) if self.parallel > 1 else []
        if cards:
            share = max(1, len(cards) // self.parallel)
            own = [cards[at % len(cards)] for at in range(slot * share, (slot + 1) * share)]
            env["CUDA_VISIBLE_DEVICES"] = ",".join(own)
        return env

    def _launched(self, mine: Mine, run: RunProgress) -> None:
        with self._lock:
            mine.optuna_trial.set_user_attr(RUN, run.folder.as_posix())
        if not mine.taken:
            self.note(f"trial {mine.number}: {self._text(mine)}")

    def _text(self, mine: Mine) -> str:
        return parameters_text(TrialRow(mine.number, "running", mine.trial.values))

    def _judged(self, mine: Mine, step: int, value: float, total: int) -> bool:
        """A value on the way is kept; whether the trial is to be stopped."""
        with self._lock:
            if self.halving and total != mine.total:
                mine.optuna_trial.set_user_attr(STEPS, total)
                mine.total = total
            mine.optuna_trial.report(value, step)
            if self.halving is None:
                return bool(mine.optuna_trial.should_prune())
            trials = self.study.trials()
            own = next((trial for trial in trials if number_of(trial) == mine.number), None)
            return own is not None and not self.halving.goes_on(own, trials)

    def _stop(self, mine: Mine, compiled: Compiled, watched: Watched | None) -> None:
        """Stop a trial. One that may be continued saves where it is, if it is a training of this machine."""
        stage = compiled.plan.recipe.find(watched.stage) if watched else None
        here = launcher_for(compiled.target)
        if self.halving and stage and stage.kind in TRAINING and here is not None and here.name == LocalLauncher.name:
            (mine.home / ".save").touch()
        else:
            mine.stop.stop()

    # --- told

    def _end_with_values(self, mine: Mine, outcome: Outcome) -> None:
        assert outcome.progress is not None
        try:
            values = [value_of(goal, outcome.progress) for goal in self.study.goals]
        except NoValueError as error:
            state = "refused" if outcome.status == 3 else "failed"
            self._end(mine, state, str(error))
            return
        if outcome.status == 3:
            refused = [stage.message for stage in outcome.progress.stages if stage.status.value == "refused"]
            self._end(mine, "refused", "; ".join(refused))
        else:
            self._end(mine, "complete", "", values)

    def _end(self, mine: Mine, state: str, reason: str, values: list[float] | None = None) -> None:
        """Tell the storage, and whoever watches."""
        with self._lock:
            self._keep_time(mine)  # first: what has ended takes no attributes
            if reason:
                mine.optuna_trial.set_user_attr(REASON, reason[:500])
            if state in ("infeasible", "refused"):
                mine.optuna_trial.set_user_attr(STATE, state)
                mine.optuna_trial.set_constraint("runs", 1.0)
            known = {"complete": "COMPLETE", "failed": "FAIL"}.get(state, "PRUNED")
            self._tell(mine.optuna_trial, known, values)
            picture = self.study.picture()
        row = next((row for row in picture.trials if row.number == mine.number), None)
        if row is None:
            return
        best = picture.best
        mark = " (best so far)" if best is not None and best.number == mine.number else ""
        text = values_text(row, picture) or row.reason or (f"at step {row.step}" if row.step is not None else "")
        if state == "infeasible":
            text = f"{self._text(mine)}: {text}"
        word = {"complete": "done", "infeasible": "refused before it started"}.get(state, state)
        self.note(f"trial {mine.number}: {word}{f': {text}' if text else ''}{mark}")

    def _tell(self, optuna_trial: OptunaTrial, state: str, values: list[float] | None = None) -> None:
        from optuna.trial import TrialState

        self.study.optuna.tell(optuna_trial, values, TrialState[state])
