"""The guard of a training: the decision after a finding, and the state that survives rollbacks and restarts.

`guard.json` beside the checkpoints holds the steps whose rows are skipped, cuts of the learning rate, how often each remedy was
tried, and the ledger. Every rank judges the same numbers and reaches the same decision; rank 0 writes. Standard library only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import anomalies
from .anomalies import Finding, Window

NAME = "guard.json"
MOST_CHECKPOINTS = 3
"""Incidents of one anomaly that may cause rollbacks, `retries` each."""
RECORDED = 20
"""Recorded warnings of one anomaly; further ones are dropped."""
CLAUSES = {"warn": "", "skip": "the step is skipped", "stop": "the training ends"}


@dataclass(frozen=True)
class Rule:
    """The action of an anomaly: ignore, warn, skip, stop or rollback; factor, limit, window (steps), after (seconds): 0:
    default.
    """

    action: str = "ignore"
    factor: float = 0.0
    limit: float = 0.0
    window: int = 0
    after: float = 0.0


@dataclass(frozen=True)
class Policy:
    """`guard` of stage.json. retries: rollbacks per incident; cut_lr: share by which the learning rate is cut when a fault
    persists; skip: whether the rows of that step are skipped then.
    """

    nan: Rule = Rule()
    spike: Rule = Rule()
    grad_norm: Rule = Rule()
    stall: Rule = Rule()
    eval: Rule = Rule()
    diverged: Rule = Rule()
    retries: int = 3
    cut_lr: float = 0.0
    skip: bool = True

    @property
    def rolls_back(self) -> bool:
        return "rollback" in (self.nan.action, self.spike.action)

    @property
    def needs_steps(self) -> bool:
        """Whether something is asked for that can only be done to a step before it is taken."""
        return self.rolls_back or "skip" in (self.nan.action, self.spike.action, self.grad_norm.action)


def policy_of(spec: Mapping[str, Any]) -> Policy:
    """Raises: TypeError for a key there is not."""
    rules = {name: Rule(**value) for name, value in spec.items() if isinstance(value, Mapping)}
    return Policy(**{**spec, **rules})


@dataclass(frozen=True)
class Decision:
    """What to do: warn, skip, stop or rollback. finding: why; message: both in a sentence."""

    action: str
    finding: Finding
    step: int
    message: str


@dataclass
class Incident:
    """A fault until training gets past it. tries: rollbacks so far; remedies: what was changed besides."""

    anomaly: str
    step: int
    tries: int = 0
    open: bool = True
    remedies: list[str] = field(default_factory=list)


@dataclass
class Memory:
    """The state that outlives a process. skipped: steps, counted from 0, whose rows are skipped; cuts: (step, factor) of the
    learning rate, in force from that checkpoint on; entries: the ledger.
    """

    skipped: list[int] = field(default_factory=list)
    cuts: list[tuple[int, float]] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    first_loss: float | None = None


class Guard:
    """Judges a training step by step. folder: of its checkpoints; report: receives ledger entries as fields of an event `guard`;
    writes: whether this rank writes guard.json; scaled: fp16 with a loss scale, whose overflows are normal.
    """

    def __init__(self, policy: Policy, folder: Path, report: Any, *, writes: bool = True, scaled: bool = False) -> None:
        self.policy, self.folder, self.report, self.writes = policy, folder, report, writes
        self.scaled = scaled
        self.window = Window(policy.spike.window or anomalies.WINDOW)
        self.losses: list[float] = []
        self.grad_norms: list[float] = []
        self.had_gradients = False
        self.finite = True
        self.best: float | None = None
        self._counts: dict[str, int] = {}
        self._high = False
        self._overflows = 0
        self.memory = read_memory(self.path)

    # --- a step

    def judge(self, step: int, loss: float | None, grad_norm: float | None) -> Decision | None:
        """Of optimizer step `step`, counted from 1, before the optimizer acts on it."""
        decision = self._judged(step, loss, grad_norm)
        self.finite = anomalies.not_finite(loss, grad_norm) is None
        if decision is None or decision.action == "warn":
            self._pass(step, loss, grad_norm)
        return decision

    def _judged(self, step: int, loss: float | None, grad_norm: float | None) -> Decision | None:
        policy = self.policy
        if finding := self._not_finite(loss, grad_norm):
            return self._decide(policy.nan.action, finding, step)
        limit = policy.grad_norm.limit
        if policy.grad_norm.action != "ignore" and grad_norm is not None and grad_norm > limit:
            finding = Finding("grad_norm", f"grad_norm is {grad_norm:.4g}, above {limit:g}", grad_norm / limit)
            return self._decide(policy.grad_norm.action, finding, step)
        return self._spiked(step, loss) if policy.spike.action != "ignore" and loss is not None else None

    def _not_finite(self, loss: float | None, grad_norm: float | None) -> Finding | None:
        finding = anomalies.not_finite(loss, grad_norm)
        if finding is None or not self.scaled or anomalies.not_finite(loss, None):
            self._overflows = 0
            return finding
        self._overflows += 1
        return finding if self._overflows > anomalies.WINDOW else None

    def _spiked(self, step: int, loss: float) -> Decision | None:
        rule = self.policy.spike
        warns = rule.action == "warn"
        finding = self.window.take(loss, rule.factor if warns else 0.0)
        again, self._high = self._high, finding is not None
        if finding is None:
            return None
        if not warns and finding.strength > (rule.factor or anomalies.ACT_FACTOR):
            return self._decide(rule.action, finding, step)
        return None if again else self._decide("warn", finding, step)

    def _pass(self, step: int, loss: float | None, grad_norm: float | None) -> None:
        """A step that the optimizer acts on."""
        if loss is not None:
            self.losses = [*self.losses[-anomalies.TAIL :], loss]
            if self.memory.first_loss is None:
                self.memory.first_loss = loss
        if grad_norm is not None:
            self.grad_norms = [*self.grad_norms[-anomalies.TAIL :], grad_norm]
            self.had_gradients |= grad_norm > anomalies.DEAD
        for incident in self.memory.incidents:
            if incident.open and step >= incident.step:
                self._over(incident, step)

    def _over(self, incident: Incident, step: int) -> None:
        incident.open = False
        how = " and ".join(incident.remedies) if incident.remedies else "with the same rows: the fault was transient"
        self._record(step, incident.anomaly, "recovered", f"past step {incident.step}, {how}")
        self.save()

    # --- what follows

    def _decide(self, action: str, finding: Finding, step: int) -> Decision | None:
        if action == "ignore":
            return None
        if action == "rollback":
            return self._back(finding, step)
        clause = CLAUSES[action]
        decision = Decision(
            action, finding, step, f"{finding.message} at step {step}" + (f": {clause}" if clause else "")
        )
        self._record(step, finding.anomaly, action, decision.message)
        return decision

    def _back(self, finding: Finding, step: int) -> Decision:
        """Go back, or end where that was tried often enough."""
        known = [incident for incident in self.memory.incidents if incident.anomaly == finding.anomaly]
        incident = next((incident for incident in known if incident.open), None)  # not got past since
        where = f"{finding.message} at step {step}"
        if incident is None and len(known) >= MOST_CHECKPOINTS:
            return self._give_up(finding, step, f"{where}, incident {len(known) + 1} of its kind")
        if incident is None:
            incident = Incident(finding.anomaly, step)
            self.memory.incidents.append(incident)
        if incident.tries >= self.policy.retries:
            done = f" ({', '.join(incident.remedies)})" if incident.remedies else ""
            return self._give_up(finding, step, f"{where}, after {incident.tries} rollbacks{done}")
        incident.tries, incident.step, incident.open = incident.tries + 1, max(incident.step, step), True
        remedies = self._remedies(incident, step)
        then = " and ".join(remedies) or "the same rows are tried again"
        message = f"{where}: back to the last checkpoint, {then} ({incident.tries} of {self.policy.retries})"
        self._record(step, finding.anomaly, "rollback", message)
        self.save()
        return Decision("rollback", finding, step, message)

    def _remedies(self, incident: Incident, step: int) -> list[str]:
        """At first none: a fault that does not recur was transient. Then the rows are skipped, then the learning rate is cut;
        the last rollback applies all that remain.
        """
        done: list[str] = []
        if incident.tries == 1:
            return done
        if self.policy.skip:
            self.memory.skipped = sorted({*self.memory.skipped, step - 1})
            done.append(f"without the rows of step {step}")
        may_cut = self.policy.cut_lr and not any("rate" in text for text in incident.remedies)
        if may_cut and (not done or incident.tries > 2 or incident.tries == self.policy.retries):
            self.memory.cuts.append((-1, 1 - self.policy.cut_lr))  # the checkpoint is known once one is found
            done.append(f"with a rate cut by {self.policy.cut_lr:.0%}")
        incident.remedies += done
        return done

    def _give_up(self, finding: Finding, step: int, message: str) -> Decision:
        self._record(step, finding.anomaly, "stop", message)
        self.save()
        return Decision("stop", finding, step, message)

    def advice(self, finding: Finding) -> str:
        """What a person can do about it, in the recipe's keys."""
        for incident in self.memory.incidents:
            if incident.anomaly == finding.anomaly and incident.remedies:
                return "it came again without those rows: a lower `optim.lr`, more `warmup`, or `optim.clip`"
        if finding.anomaly == "diverged":
            return "a lower `optim.lr`, more `warmup`; `guard { diverged = ignore }` takes such a result as it is"
        return "a lower `optim.lr`, or `optim.clip`, may help"

    # --- going back

    def left_out(self, step: int) -> bool:
        """Whether the rows of a step, counted from 0, are left out."""
        return step in self.memory.skipped

    def resumed_at(self, step: int) -> float:
        """The factor for the learning rate of a checkpoint of `step`: the product of cuts that it does not contain. They count
        from there afterwards.
        """
        factor, cuts = 1.0, []
        for at, cut in self.memory.cuts:
            if at < 0 or at >= step:
                factor, at = factor * cut, step
            cuts.append((at, cut))
        if cuts != self.memory.cuts:
            self.memory.cuts = cuts
            self.save()
        return factor

    def recall(self, logs: Sequence[Mapping[str, Any]]) -> None:
        """What a checkpoint knows of the steps before it: the first loss, the last ones, the best evaluation."""
        losses = [float(entry["loss"]) for entry in logs if "loss" in entry]
        if not self.losses:
            self.losses = losses[-anomalies.TAIL :]
            norms = [float(entry["grad_norm"]) for entry in logs if "grad_norm" in entry]
            self.grad_norms = norms[-anomalies.TAIL :]
            self.had_gradients |= any(norm > anomalies.DEAD for norm in norms)
        if losses and self.memory.first_loss is None:
            self.memory.first_loss = losses[0]
        self.best = min((float(entry["eval_loss"]) for entry in logs if "eval_loss" in entry), default=None)

    # --- other things that are judged

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> Decision | None:
        """An evaluation: its loss against the best before it."""
        rule, value = self.policy.eval, metrics.get("eval_loss")
        if rule.action == "ignore" or value is None:
            return None
        finding = anomalies.worse("eval_loss", value, self.best, rule.factor or anomalies.WARN_FACTOR)
        self.best = value if self.best is None or value < self.best else self.best
        return self._decide(rule.action, finding, step) if finding else None

    def ended(self, step: int, vocabulary: int = 0) -> Decision | None:
        """At the end of a training: whether it went anywhere."""
        if self.policy.diverged.action == "ignore":
            return None
        first, had = self.memory.first_loss, self.had_gradients
        finding = anomalies.diverged(self.losses, self.grad_norms, first, vocabulary, had_gradients=had)
        if finding is None:
            return None
        action = self.policy.diverged.action
        message = f"the training diverged: {finding.message}"
        self._record(step, "diverged", action, message)
        return Decision(action, finding, step, message)

    # --- the ledger

    def note(self, step: int, anomaly: str, action: str, message: str) -> None:
        """An entry of something that others saw or did."""
        self._record(step, anomaly, action, message)
        self.save()

    def _record(self, step: int, anomaly: str, action: str, message: str) -> None:
        count = self._counts[anomaly] = self._counts.get(anomaly, 0) + 1
        if action in ("warn", "skip") and count > RECORDED:
            return
        if count == RECORDED and action in ("warn", "skip"):
            message += "; more of these are not recorded"
        entry = {"step": step, "anomaly": anomaly, "action": action, "message": message}
        self.memory.entries.append(entry)
        self.report(**entry)

    @property
    def path(self) -> Path:
        return self.folder / NAME

    def save(self) -> None:
        """Raises: OSError."""
        if not self.writes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f".{NAME}.new")
        with beside.open("w", encoding="utf-8") as handle:
            json.dump({"schema": 1, **asdict(self.memory)}, handle, indent=1)
            handle.flush()
            os.fsync(handle.fileno())
        beside.replace(self.path)


def read_memory(path: Path) -> Memory:
    """What an earlier process of a stage remembered."""
    try:
        known = json.loads(path.read_bytes())
        memory = Memory(**{name: known[name] for name in Memory.__dataclass_fields__})
        memory.incidents = [Incident(**fields) for fields in known["incidents"]]
        memory.cuts = [(int(step), float(factor)) for step, factor in known["cuts"]]
    except (OSError, ValueError, KeyError, TypeError):
        return Memory()
    return memory
