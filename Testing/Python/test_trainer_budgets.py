"""How long a training takes, at which rate it learns, and which scans have their turn."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_task
from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.pretext.checkpoint import CHECKPOINT_NAME
from SSLFewShotLib.pretext.trainer import TrainerSettings
from toy_task import make_trainer, stop_in

# Sums come out the same to the last bit in every process.
pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> list[Path]:
    return toy_task.write_scans(tmp_path_factory.mktemp("scans"))


def test_a_budget_of_minutes_ends_near_its_time(scans, tmp_path):
    started = time.monotonic()
    training = make_trainer(tmp_path, scans, minutes=1.5 / 60).run()
    passed = time.monotonic() - started
    assert training.seconds >= 1.5 and training.iteration > 1
    assert 1.5 <= passed < 6.5
    assert training.rows[-1]["iteration"] == training.iteration


def test_a_resumed_budget_of_minutes_only_spends_what_is_left(scans, tmp_path):
    first = make_trainer(tmp_path, scans, minutes=1.0)
    stop_in(first, 30, Cancelled())
    with pytest.raises(Cancelled):
        first.run()
    state = torch.load(tmp_path / CHECKPOINT_NAME, weights_only=True)
    state["seconds"] = 59.0
    torch.save(state, tmp_path / CHECKPOINT_NAME)
    started = time.monotonic()
    training = make_trainer(tmp_path, scans, minutes=1.0).run(resume=True)
    assert time.monotonic() - started < 10
    assert training.iteration > 30 and 60 <= training.seconds < 70


def test_the_rate_warms_up_and_falls_to_zero_or_stays():
    cosine = TrainerSettings(iterations=1, learning_rate=1e-3)
    assert cosine.rate(0.0) == pytest.approx(1e-5)
    assert cosine.rate(0.02) == pytest.approx(1e-3, rel=0.01)
    assert cosine.rate(0.5) == pytest.approx(5e-4)
    assert cosine.rate(1.0) == pytest.approx(0, abs=1e-12)
    constant = TrainerSettings(iterations=1, learning_rate=5e-5, schedule="constant")
    assert {constant.rate(fraction) for fraction in (0.0, 0.3, 1.0)} == {5e-5}


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"iterations": 5, "minutes": 1.0},
        {"iterations": 0},
        {"minutes": -1.0},
        {"iterations": 5, "learning_rate": 0.0},
        {"iterations": 5, "learning_rate": float("nan")},
        {"iterations": 5, "weight_decay": -1.0},
        {"iterations": 5, "schedule": "linear"},
        {"iterations": 5, "refresh_every": 0},
        {"iterations": 5, "seed": -1},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(InputError):
        TrainerSettings(**wrong)


def test_a_task_learns_how_far_the_training_has_come(scans, tmp_path):
    trainer = make_trainer(tmp_path, scans, iterations=10)
    fractions = []
    plain = trainer.task.sample
    trainer.task.sample = lambda *a: fractions.append(trainer.task.fraction) or plain(*a)
    trainer.run()
    np.testing.assert_allclose(fractions, np.arange(10) / 10)


def test_new_scans_come_in_every_few_iterations_and_all_have_their_turn(scans, tmp_path):
    trainer = make_trainer(tmp_path, scans, iterations=60, refresh_every=5)
    seen = []
    plain = trainer.pool.draw
    trainer.pool.draw = lambda *a: seen.append(plain(*a)) or seen[-1]
    trainer.run()
    assert len(seen) == 12 and all(len(batch) == 2 for batch in seen)
    assert {scan.name for batch in seen for scan in batch.scans} == {path.name for path in scans}
