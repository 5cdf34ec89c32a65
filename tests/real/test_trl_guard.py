"""Guards and batches that change, in stages that TRL trains: what goes wrong once leaves no trace."""

from __future__ import annotations

import json

import pytest

from ftdsl.run.environments import Environment
from tests.real import trained

pytestmark = pytest.mark.real

BODY = "lora { rank = 4 }"
RAMP = (
    "batch = null, batch.ramp = [phase(until = 6 steps, micro = 1, accumulate = 4), phase(micro = 2, accumulate = 4)]"
)


def planted(what: str) -> str:
    return f'guard {{ nan = rollback }}, env {{ FTC_INJECT = "{what}" }}'


STAGES = {
    "undisturbed": BODY,
    "nan": f"{BODY}, {planted('nan@13')}",
    "corrupt": f"{BODY}, {planted('corrupt@10; nan@13')}",
    "rows": f"{BODY}, {planted('rows@13')}",
    "ramp": f"{BODY}, {RAMP}",
    "ramp_nan": f"{BODY}, {RAMP}, {planted('nan@8')}",
}


@pytest.fixture(scope="module")
def ran(forking_trl: Environment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, trained.Trained]:
    place = tmp_path_factory.mktemp("guard")
    trained.write_rows(place)
    return trained.run(place, STAGES, forking_trl.python, more="engine = trl\n")


@pytest.mark.parametrize(("name", "like"), [("nan", "undisturbed"), ("corrupt", "undisturbed"), ("ramp_nan", "ramp")])
def test_a_transient_fault_leaves_no_trace(name: str, like: str, ran: dict[str, trained.Trained]) -> None:
    assert ran[name].losses == ran[like].losses, "bit for bit"
    assert ran[name].ledger()[0] == ("nan", "rollback") or name == "corrupt"


def test_a_damaged_checkpoint_is_not_gone_back_to(ran: dict[str, trained.Trained]) -> None:
    messages = [event["message"] for event in ran["corrupt"].events if event["event"] == "guard"]
    assert any("checkpoint-10 is damaged" in text for text in messages) and "resumes from checkpoint-5" in messages


def test_rows_that_always_fail_are_left_out(ran: dict[str, trained.Trained]) -> None:
    kept = json.loads((ran["rows"].folder / "result" / "guard.json").read_bytes())
    assert kept["skipped"] == [12] and ran["rows"].ledger()[-1] == ("nan", "recovered")


def test_a_ramp_has_its_phases(ran: dict[str, trained.Trained]) -> None:
    phases = [event for event in ran["ramp"].events if event["event"] == "phase"]
    assert [(event["step"], event["micro"], event["accumulate"]) for event in phases] == [(0, 1, 4), (6, 2, 4)]
