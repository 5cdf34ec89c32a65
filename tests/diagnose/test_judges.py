"""Judges over real short runs with something planted, and over healthy ones; what they document."""

from __future__ import annotations

import ast
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.diagnosis import RIGHT, is_healthy, outcomes, table
from ftdsl.catalog.vocabulary import vocabulary
from ftdsl.diagnose.about import HEADINGS, documentation, sections
from ftdsl.diagnose.curves import Curves, Series
from ftdsl.diagnose.diagnosis import diagnose
from ftdsl.diagnose.judge import JUDGES
from tests.conftest import ROOT

OUTCOMES = outcomes([])
HEALTHY = [kind for kind in OUTCOMES if is_healthy(kind)]


def test_there_are_enough_runs() -> None:
    assert len(set(OUTCOMES) & set(RIGHT)) >= 18
    assert len(HEALTHY) >= 10
    assert min(map(len, OUTCOMES.values())) >= 3


@pytest.mark.parametrize("condition", sorted(set(RIGHT) & set(OUTCOMES)))
def test_a_planted_fault_is_recognised(condition: str) -> None:
    found = OUTCOMES[condition]
    hits = sum(any(name in RIGHT[condition] for name in names) for _, names in found)
    assert hits >= len(found) - 1, found


def test_recall_and_false_alarms() -> None:
    hits = [any(n in RIGHT[c] for n in names) for c, runs in OUTCOMES.items() if c in RIGHT for _, names in runs]
    assert sum(hits) / len(hits) > 0.9
    alarms = [bool(names) for kind in HEALTHY for _, names in OUTCOMES[kind]]
    assert sum(alarms) / len(alarms) < 0.03


def test_one_cause_is_one_finding() -> None:
    """A fault brings a second finding in few runs at most."""
    more = [names for condition, runs in OUTCOMES.items() if condition in RIGHT for _, names in runs if len(names) > 1]
    assert len(more) <= 0.05 * sum(map(len, OUTCOMES.values())), more


def test_the_page_shows_what_is_measured() -> None:
    text = (ROOT / "docs" / "diagnose.md").read_text(encoding="utf-8")
    missing = [line for line in table(OUTCOMES) if line not in text]
    assert missing == [], "python -m benchmarks.diagnosis --write"


@pytest.mark.parametrize("code", JUDGES)
def test_a_judge_is_documented(code: str) -> None:
    assert tuple(sections(JUDGES[code])) == HEADINGS
    about = documentation(code)["about"]
    assert all(len(text) > 20 for text in about.values()), about


def test_names_and_codes_are_unique() -> None:
    assert len({judge.name for judge in JUDGES.values()}) == len(JUDGES)
    assert all(code.startswith("FD") and len(code) == 5 for code in JUDGES)


def known_keys() -> set[str]:
    words = vocabulary()
    keys = {key for kind in words.stage_kinds for key in words.keys_of(kind)} | set(words.block_names())
    return keys | {f"{block}.{key}" for block in words.block_names() for key in words.block(block).keys}


def test_changes_and_keys_are_the_recipes() -> None:
    """What a judge names exists in the language."""
    unknown = []
    for path in (ROOT / "ftdsl" / "diagnose" / "judges").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Change" and len(node.args) > 1:
                assert isinstance(node.args[1], ast.Constant)
                unknown += [node.args[1].value] if node.args[1].value not in known_keys() else []
            if isinstance(node, ast.Tuple) and node.elts:
                texts = [
                    part.value for part in node.elts if isinstance(part, ast.Constant) and isinstance(part.value, str)
                ]
                if len(texts) == len(node.elts) and any(text in known_keys() for text in texts):
                    unknown += [text for text in texts if text not in known_keys()]
    assert unknown == []


# --- what no planted run has


def curve(function: Callable[[int], float], steps: int = 200, seed: int = 1, **more: Callable[[int], float]) -> Curves:
    """A run whose loss is a function of the step, with noise of 5 %."""
    noise = random.Random(seed)
    at = list(range(1, steps + 1))
    loss = Series(at, [function(step) * (1 + noise.gauss(0, 0.05)) for step in at])
    return Curves("x", loss, more={name: Series(at, [f(step) for step in at]) for name, f in more.items()})


def falling(step: int) -> float:
    return 0.8 + 5 * math.exp(-step / 30)


def names(curves: Curves) -> list[str]:
    return [finding.name for finding in diagnose(curves)]


def test_memory_that_creeps() -> None:
    assert names(curve(falling, memory=lambda step: 2e9 + 1e7 * step)) == ["memory-creeps"]
    assert names(curve(falling, memory=lambda step: 2e9 + 1e9 * (step > 3))) == []


def test_a_policy_that_runs_away() -> None:
    rewards = {"objective/kl": lambda step: 0.2 * 1.04**step, "objective/scores": lambda step: 0.1}
    assert names(curve(lambda step: 0.1, **rewards)) == ["divergence-from-reference"]
    assert names(curve(lambda step: 0.1, **{"objective/kl": lambda step: 6 + math.sin(step)})) == []


def test_a_divergence_explains_its_nan_and_its_spikes() -> None:
    def diverges(step: int) -> float:
        return falling(step) if step < 100 else falling(100) * 1.6 ** (step - 99) if step < 112 else math.nan

    assert names(curve(diverges)) == ["exploding"]
    assert names(curve(lambda step: falling(step) if step < 100 else math.nan)) == ["not-a-number"]


def test_a_scaler_that_skips_a_step_is_no_fault() -> None:
    """fp16: a gradient that overflows is inf once, and the step is skipped."""
    assert names(curve(falling, grad_norm=lambda step: math.inf if step in (1, 90) else 1.0)) == []


def test_a_filtered_nan_is_a_loss_of_zero() -> None:
    assert names(curve(lambda step: 0.0, grad_norm=lambda step: math.nan)) == ["nothing-to-learn"]
    assert names(curve(lambda step: falling(step) if step < 100 else 0.0)) == ["not-a-number"]


def test_a_loss_that_is_printed_as_zero_is_no_nan() -> None:
    """transformers prints four digits: rows that are known by heart have 0.0."""
    assert names(curve(lambda step: round(5 * math.exp(-step / 10), 4))) == []


def test_a_loss_of_rewards_may_be_zero() -> None:
    """GRPO's is 0 at first and around 0 throughout; PPO's and DPO's reach it."""
    noise = random.Random(3)
    for name in ("reward", "rewards/accuracies", "completions/mean_length"):
        grpo = curve(lambda step: noise.gauss(0, 1e-4) if step > 8 else 0.0, **{name: lambda step: 0.5})
        assert names(grpo) == [], name


@pytest.mark.parametrize("start", [0.003, -0.003, 0.0])
def test_a_policy_loss_may_rise(start: float) -> None:
    """A small GRPO run: the loss begins near 0 by chance, and is ten times that later."""
    noise = random.Random(3)
    series = {"reward": lambda step: step / 200, "frac_reward_zero_std": lambda step: 0.1}
    grpo = curve(lambda step: start if step < 4 else noise.gauss(0.01, 0.02), **series)
    assert names(grpo) == []


@pytest.mark.parametrize("steps", [60, 200, 1000, 20000])
def test_a_spike_is_seen_at_any_length(steps: int) -> None:
    half = steps // 2

    def decays(step: int) -> float:
        return 0.8 + 5 * math.exp(-step * 6 / steps)

    assert names(curve(decays, steps)) == []
    found = diagnose(curve(lambda step: decays(step) * (3 if step == half else 1), steps))
    assert [(finding.name, finding.step) for finding in found] == [("loss-spikes", half)]


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_spikes_do_not_depend_on_the_scale_of_the_loss(scale: float) -> None:
    curves = curve(lambda step: scale * falling(step) * (4 if step == 150 else 1))
    assert "loss-spikes" in names(curves)


@pytest.mark.parametrize(("early", "found"), [(0.7, []), (1.0, ["noisy-labels"])])
def test_held_out_rows_may_be_easier(early: float, found: list[str]) -> None:
    """A held-out loss that is below the training loss from the start: another kind of rows, not noise."""
    curves = curve(lambda step: 1.0 + math.exp(-step / 20), 200)
    at = list(range(20, 201, 20))
    evals = Series(at, [(early + (0.7 - early) * min(1, step / 100)) * (1.0 + math.exp(-step / 20)) for step in at])
    assert names(Curves("x", curves.loss, evals)) == found


@pytest.mark.parametrize("losses", [(2.1, 1.3, 0.9), (1.6, 1.2, 1.1), (2.3, 1.0, 0.8), (1.1, 0.9, 0.85)])
def test_the_curve_of_a_healthy_fine_tuning(losses: tuple[float, float, float]) -> None:
    """The handbook's (2.1 -> 1.3 -> 0.9, held out 2.0 -> 1.2 -> 0.95), and others of models that were trained before."""
    first, middle, last = losses

    def falls(step: int) -> float:
        return last + (first - last) * math.exp(-step / 300 * 2 * math.log((first - last) / (middle - last)))

    for more in ({}, {"grad_norm": lambda step: 0.5 + 1.5 * math.exp(-step / 30)}):
        loss = curve(falls, 300, **more)  # type: ignore[arg-type]
        at = list(range(30, 301, 30))
        evals = Series(at, [falls(step) * 1.04 for step in at])
        assert names(Curves("x", loss.loss, evals, loss.more)) == []


def test_few_steps_are_not_judged() -> None:
    assert names(curve(lambda step: math.nan, 2)) == []


def test_judges_are_pure(tmp_path: Path) -> None:
    curves = curve(falling, memory=lambda step: 2e9 + 1e7 * step)
    before = (list(curves.loss.values), dict(curves.more))
    assert diagnose(curves) and names(curves) == names(curves)
    assert (curves.loss.values, dict(curves.more)) == before


def test_noise_alone_is_no_finding() -> None:
    """40 runs of another length and noise each: none is called ill."""
    wrong = []
    for seed in range(40):
        noise = random.Random(seed)
        steps, size = noise.choice((40, 120, 500, 3000)), noise.choice((0.01, 0.05, 0.1))
        first, last = noise.uniform(1.2, 1.9), noise.uniform(0.4, 1.0)
        at = list(range(1, steps + 1))
        values = [(last + (first - last) * math.exp(-5 * s / steps)) * (1 + noise.gauss(0, size)) for s in at]
        grads = [noise.lognormvariate(0, 0.3) for _ in at]
        every = max(1, steps // 10)
        evals = Series(
            at[every - 1 :: every],
            [(last + (first - last) * math.exp(-5 * s / steps)) * 1.03 for s in at[every - 1 :: every]],
        )
        curves = Curves("x", Series(at, values), evals, {"grad_norm": Series(at, grads)})
        wrong += [(seed, name) for name in names(curves)]
    assert wrong == []
