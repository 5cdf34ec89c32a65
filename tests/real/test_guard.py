"""Faults planted in trainings of the real engine: what is seen, what is done, and that a transient one leaves no trace.

Stages are forks of one warm process; what a launcher does with ranks that die is in test_ranks.py.
"""

from __future__ import annotations

import json
import math

import pytest

from ftdsl.run.environments import Environment
from tests.real import trained

pytestmark = pytest.mark.real

FULL, LORA = "full {}", "lora { rank = 4, dropout = 10% }"
TWO = "full {}, hardware.count = 2"
ZERO3 = f"{TWO}, parallel.strategy = zero3"
BACK = "guard { nan = rollback }"


def planted(what: str) -> str:
    return f'env {{ FTC_INJECT = "{what}" }}'


LAYOUTS = {"one": "", "two": ", hardware.count = 2", "zero": ", hardware.count = 2, parallel.strategy = zero2"}
UNDISTURBED = {
    f"{layout}_{method}": f"{body}{more}"
    for method, body in {"full": FULL, "lora": LORA}.items() for layout, more in LAYOUTS.items()
} | {"zero3_full": ZERO3}  # fmt: skip
FAULTS = {
    "nan": f"{BACK}, {planted('nan@13')}",
    "spike": f"guard {{ spike = rollback }}, {planted('spike@23')}",
    "corrupt": f"{BACK}, {planted('corrupt@10; nan@13')}",
}
TRANSIENT = {
    f"{fault}_{like}": (like, f"{body}, {more}") for fault, more in FAULTS.items() for like, body in UNDISTURBED.items()
} | {
    "first_rank": ("two_full", f"{TWO}, {BACK}, {planted('nan@13:0')}"),
    "early": ("one_lora", f"{LORA}, {BACK}, {planted('nan@3')}"),
    "keep_one": ("one_full", f"{FULL}, save {{ every = 5 steps, keep = 1 }}, {BACK}, {planted('corrupt@10; nan@13')}"),
    "twice": ("one_full", f"{FULL}, {BACK}, {planted('nan@8; nan@18')}"),
} | {
    f"{fault}_one_{method}": (f"one_{method}", f"{body}, launch.retries = 1, {more}")
    for method, body in {"full": FULL, "lora": LORA}.items()
    for fault, more in {
        "killed": planted("exit@13"), "hung": f"guard {{ stall = stop(4s) }}, {planted('hang@13')}",
    }.items()
}  # fmt: skip
"""Stage -> the undisturbed one that it must be like, and what it is made of."""
ROWS = {f"rows_{like}": (like, f"{body}, {BACK}, {planted('rows@13')}") for like, body in UNDISTURBED.items()}
LASTING = {
    "cut": f"{FULL}, guard {{ nan = rollback, retries = 2, cut_lr = 50% }}, {planted('rows@13')}",
    "norm": f"{FULL}, guard {{ grad_norm = skip(50) }}, {planted('peak@13')}",
    "skipped": f"{FULL}, guard {{ nan = skip }}, {planted('rows@13')}",
    "warned": f"{FULL}, {planted('spike@23')}",
    "stays": f"{FULL}, guard {{ diverged = ignore }}, optim {{ lr = 3, schedule = constant, clip = none }}",
} | {name: body for name, (_, body) in ROWS.items()}
FAILING = {
    "stop": (f"{FULL}, {planted('nan@13')}", "loss is nan at step 13"),
    "given_up": (f"{FULL}, guard {{ nan = rollback, retries = 2, skip = false }}, {planted('rows@13')}",
                 "loss is nan at step 13, after 2 rollbacks"),
    "far_above": (f"{FULL}, optim {{ lr = 3, schedule = constant, clip = none }}", "the training diverged"),
}  # fmt: skip

RAMP = (
    "batch = null, batch.ramp = [phase(until = 6 steps, micro = 1, accumulate = 4), phase(micro = 2, accumulate = 4)]"
)
OTHERS = {"pretrain": "texts", "dpo": "pairs", "kto": "liked"}
KINDS = """
data pairs { source = file("pairs.jsonl"), columns { chosen = "chosen", rejected = "rejected" } }
data liked { source = file("liked.jsonl") }
data texts { source = file("texts.jsonl"), format = text }
""" + "".join(
    f"{kind} {kind}_{name} {{ data = {data}, {LORA}, {RAMP}{more} }}\n"
    for kind, data in OTHERS.items() for name, more in {"undisturbed": "", "nan": f", {BACK}, {planted('nan@8')}"}.items()
)  # fmt: skip
"""Other trainers of the engine's, with a batch that changes besides."""


@pytest.fixture(scope="module")
def ran(forking: Environment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, trained.Trained]:
    place = tmp_path_factory.mktemp("guard")
    trained.write_rows(place)
    stages = {**UNDISTURBED, **LASTING, **{name: body for name, (_, body) in TRANSIENT.items()},
              **{name: body for name, (body, _) in FAILING.items()}}  # fmt: skip
    return trained.run(place, stages, forking.python, ok=False, more=KINDS)


def done(one: trained.Trained) -> trained.Trained:
    assert one.status == "done", one.message + trained.tail(one)
    return one


@pytest.mark.parametrize("name", TRANSIENT)
def test_a_transient_fault_leaves_no_trace(name: str, ran: dict[str, trained.Trained]) -> None:
    undisturbed, one = done(ran[TRANSIENT[name][0]]), done(ran[name])
    assert one.losses == undisturbed.losses, "bit for bit"
    assert one.rates == undisturbed.rates
    assert not (one.folder / "result" / "checkpoint-0").exists()


@pytest.mark.parametrize("kind", OTHERS)
def test_other_trainers_are_guarded_too(kind: str, ran: dict[str, trained.Trained]) -> None:
    assert done(ran[f"{kind}_nan"]).losses == done(ran[f"{kind}_undisturbed"]).losses
    assert ran[f"{kind}_nan"].ledger()[0] == ("nan", "rollback")


@pytest.mark.parametrize("name", [*(f"nan_{like}" for like in UNDISTURBED), "early"])
def test_the_ledger_says_what_was_seen_and_done(name: str, ran: dict[str, trained.Trained]) -> None:
    assert ran[name].ledger() == [("nan", "rollback"), ("nan", "resumed"), ("nan", "recovered")]
    kept = json.loads((ran[name].folder / "result" / "guard.json").read_bytes())["entries"]
    assert [entry["action"] for entry in kept] == ["rollback", "resumed", "recovered"]


@pytest.mark.parametrize("name", [*(f"corrupt_{like}" for like in UNDISTURBED), "keep_one"])
def test_a_checkpoint_that_was_damaged_is_not_gone_back_to(name: str, ran: dict[str, trained.Trained]) -> None:
    messages = [event["message"] for event in ran[name].events if event["event"] == "guard"]
    assert any("checkpoint-10 is damaged" in text for text in messages)
    assert "resumes from checkpoint-5" in messages
    assert (ran[name].folder / "result" / "broken-checkpoint-10").is_dir()


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_always_fail_are_left_out(name: str, ran: dict[str, trained.Trained]) -> None:
    one, undisturbed = done(ran[name]), done(ran[ROWS[name][0]])
    assert one.ledger() == [("nan", "rollback"), ("nan", "resumed")] * 2 + [("nan", "recovered")]
    assert json.loads((one.folder / "result" / "guard.json").read_bytes())["skipped"] == [12]
    assert all(map(math.isfinite, one.losses.values()))
    assert [step for step in one.losses if one.losses[step] != undisturbed.losses[step]] == list(range(13, 25))


def test_the_rate_is_cut_once(ran: dict[str, trained.Trained]) -> None:
    one, whole = done(ran["cut"]), ran["one_full"].rates
    assert [one.rates[step] / whole[step] for step in whole if step < 24] == pytest.approx([1.0] * 10 + [0.5] * 13)


@pytest.mark.parametrize(("name", "anomaly"), [("norm", "grad_norm"), ("skipped", "nan")])
def test_a_step_that_is_skipped_moves_nothing(name: str, anomaly: str, ran: dict[str, trained.Trained]) -> None:
    one, whole = done(ran[name]), ran["one_full"]
    assert one.ledger() == [(anomaly, "skip")]
    assert {step for step in one.losses if one.losses[step] != whole.losses[step]} == set(range(13, 25))
    assert one.rates == whole.rates
    assert all(map(math.isfinite, one.losses.values()))


def test_what_is_only_seen_changes_nothing(ran: dict[str, trained.Trained]) -> None:
    assert done(ran["warned"]).ledger() == [("spike", "warn")]


@pytest.mark.parametrize("name", FAILING)
def test_what_does_not_come_back_fails_with_a_diagnosis(name: str, ran: dict[str, trained.Trained]) -> None:
    assert ran[name].status == "failed"
    assert FAILING[name][1] in ran[name].message
    assert not list((ran[name].folder / "result").glob("*.safetensors")), "no model is handed on"


def test_a_result_that_diverged_is_taken_where_the_recipe_says_so(ran: dict[str, trained.Trained]) -> None:
    done(ran["stays"])


@pytest.mark.parametrize("method", ["full", "lora"])
def test_what_hung_or_died_is_in_the_ledger(method: str, ran: dict[str, trained.Trained]) -> None:
    assert ran[f"killed_one_{method}"].ledger() == [("restart", "restarted")]
    assert ran[f"hung_one_{method}"].ledger() == [("stall", "stop"), ("restart", "restarted")]
