"""A training that is asked to save by a file: it does so after the step, and ends as one that is to be started again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from ftdsl.runtime.actions import SaveRequest
from ftdsl.runtime.events import SAVED
from ftdsl.runtime.report import StageError


def heed(request: SaveRequest, step: int, *, last: int = 10, weights_alone: bool = False) -> SimpleNamespace:
    training = SimpleNamespace(save_only_model=weights_alone, world_size=1, device="cpu")
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    request.heed(training, SimpleNamespace(global_step=step, max_steps=last), control)
    return control


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FTC_SAVE_REQUEST", str(tmp_path / "save"))
    monkeypatch.setenv("FTC_SAVED", str(tmp_path / "saved"))
    return tmp_path


def test_it_saves_after_the_step_and_says_so(asked: Path) -> None:
    request = SaveRequest()
    assert not heed(request, 3).should_save
    (asked / "save").touch()
    control = heed(request, 4)
    assert control.should_save and control.should_training_stop
    with pytest.raises(StageError, match="saved at step 4") as caught:
        request.ended(first=True)
    assert caught.value.status == SAVED
    assert (asked / "saved").exists()


def test_the_last_step_ends_the_training_as_ever(asked: Path) -> None:
    (asked / "save").touch()
    request = SaveRequest()
    assert not heed(request, 10).should_save
    request.ended(first=True)
    assert not (asked / "saved").exists()


def test_a_training_that_cannot_be_resumed_goes_on(asked: Path) -> None:
    (asked / "save").touch()
    assert not heed(SaveRequest(), 4, weights_alone=True).should_training_stop


def test_nobody_asks_without_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FTC_SAVE_REQUEST", raising=False)
    request = SaveRequest()
    assert not heed(request, 4).should_save
    request.ended(first=True)
