"""The trainer: same seed, same weights, interrupted or not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_task
from SSLFewShotLib.errors import Cancelled
from SSLFewShotLib.pretext.checkpoint import CHECKPOINT_NAME
from toy_task import make_trainer, same, stop_in, weights

ITERATIONS = 40

# Sums come out the same to the last bit in every process.
pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> list[Path]:
    return toy_task.write_scans(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def uninterrupted(scans, tmp_path_factory) -> dict[str, torch.Tensor]:
    trainer = make_trainer(tmp_path_factory.mktemp("whole"), scans, iterations=ITERATIONS)
    trainer.run()
    return weights(trainer)


def test_the_loss_falls_and_is_logged_with_the_control_metric(scans, tmp_path):
    training = make_trainer(tmp_path, scans, iterations=100).run()
    assert training.iteration == 100
    rows = training.rows
    assert [row["iteration"] for row in rows] == list(range(1, 101))
    assert set(rows[0]) == {"iteration", "minutes", "loss", "learning_rate", "error"}
    first, last = (np.mean([row["loss"] for row in part]) for part in (rows[:10], rows[-10:]))
    assert last < 0.5 * first


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(scans, tmp_path, uninterrupted):
    again = make_trainer(tmp_path / "again", scans, iterations=ITERATIONS)
    again.run()
    other = make_trainer(tmp_path / "other", scans, seed=1, iterations=ITERATIONS)
    other.run()
    assert same(weights(again), uninterrupted)
    assert not same(weights(other), uninterrupted)


def test_the_global_generators_play_no_part(scans, tmp_path, uninterrupted):
    torch.manual_seed(123)
    np.random.seed(123)
    trainer = make_trainer(tmp_path, scans, iterations=ITERATIONS)
    trainer.run()
    assert same(weights(trainer), uninterrupted)


@pytest.mark.parametrize("iteration", [1, 7, 23, ITERATIONS - 1])
def test_a_cancelled_training_that_is_resumed_ends_with_the_same_weights(
    scans, tmp_path, uninterrupted, iteration
):
    cancelled = make_trainer(tmp_path, scans, iterations=ITERATIONS)
    stop_in(cancelled, iteration, Cancelled())
    with pytest.raises(Cancelled):
        cancelled.run()
    resumed = make_trainer(tmp_path, scans, iterations=ITERATIONS)
    training = resumed.run(resume=True)
    assert training.iteration == ITERATIONS
    assert same(weights(resumed), uninterrupted)
    assert [row["iteration"] for row in training.rows] == list(range(1, ITERATIONS + 1))


def test_cancelling_through_progress_stops_within_a_second_and_leaves_a_checkpoint(scans, tmp_path):
    trainer = make_trainer(tmp_path, scans, minutes=5.0)
    reports = []

    def cancel(fraction: float, message: str) -> None:
        reports.append((fraction, message))
        if message.startswith("iteration"):
            raise Cancelled

    with pytest.raises(Cancelled):
        trainer.run(progress=cancel)
    assert all(0 <= fraction <= 1 for fraction, _ in reports)
    assert any("reading scan_" in message for _, message in reports)
    assert trainer.training.seconds < 60
    assert (tmp_path / CHECKPOINT_NAME).exists()


@pytest.mark.slow
def test_a_training_killed_from_outside_and_resumed_ends_with_the_same_weights(scans, tmp_path, uninterrupted):
    command = [sys.executable, toy_task.__file__, str(tmp_path), str(ITERATIONS), *map(str, scans)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment)
    checkpoint = tmp_path / CHECKPOINT_NAME
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if checkpoint.exists() and torch.load(checkpoint, weights_only=True)["iteration"] >= 8:
            break
        time.sleep(0.001)
    process.kill()
    assert process.wait() != 0  # it was caught on its way
    resumed = make_trainer(tmp_path, scans, iterations=ITERATIONS)
    resumed.run(resume=True)
    assert same(weights(resumed), uninterrupted)


def test_ctrl_c_within_a_step_keeps_the_last_whole_checkpoint(scans, tmp_path, uninterrupted):
    trainer = make_trainer(tmp_path, scans, iterations=ITERATIONS)
    stop_in(trainer, 10, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    second = make_trainer(tmp_path, scans, iterations=ITERATIONS)
    plain = second.optimiser.step

    def step_half(*arguments, **keywords):
        plain(*arguments, **keywords)
        if second.training.iteration == 20:
            raise KeyboardInterrupt

    second.optimiser.step = step_half
    with pytest.raises(KeyboardInterrupt):
        second.run(resume=True)
    third = make_trainer(tmp_path, scans, iterations=ITERATIONS)
    third.run(resume=True)
    assert same(weights(third), uninterrupted)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_within_the_very_first_step_leaves_a_checkpoint_to_resume_from(
    scans, tmp_path, uninterrupted, name
):
    before = signal.signal(getattr(signal, name), signal.default_int_handler)
    try:
        trainer = make_trainer(tmp_path, scans, iterations=ITERATIONS)
        plain = trainer.optimiser.step

        def step(*arguments, **keywords):
            signal.raise_signal(getattr(signal, name))
            return plain(*arguments, **keywords)

        trainer.optimiser.step = step
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
        assert trainer.training.iteration == 1, "the step was finished first"
        assert signal.getsignal(getattr(signal, name)) is signal.default_int_handler
    finally:
        signal.signal(getattr(signal, name), before)
    resumed = make_trainer(tmp_path, scans, iterations=ITERATIONS)
    training = resumed.run(resume=True)
    assert same(weights(resumed), uninterrupted)
    assert [row["iteration"] for row in training.rows] == list(range(1, ITERATIONS + 1))


def test_a_second_ctrl_c_does_not_wait_for_the_step(scans, tmp_path):
    trainer = make_trainer(tmp_path, scans, iterations=ITERATIONS)
    finished_steps = []

    def step(*arguments, **keywords):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        finished_steps.append(1)

    trainer.optimiser.step = step
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert not finished_steps and not (tmp_path / CHECKPOINT_NAME).exists()


def test_an_error_in_a_step_is_not_hidden_by_a_ctrl_c_that_waits_for_its_end(scans, tmp_path):
    trainer = make_trainer(tmp_path, scans, iterations=ITERATIONS)

    def step(*arguments, **keywords):
        signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError

    trainer.optimiser.step = step
    with pytest.raises(ZeroDivisionError):
        trainer.run()


def test_every_row_of_the_log_is_told_when_it_is_there(scans, tmp_path):
    told = []
    trainer = make_trainer(tmp_path, scans, iterations=10)
    trainer.run(on_row=lambda training: told.append(training.rows[-1]["iteration"]))
    assert told == list(range(1, 11))


def test_resuming_a_finished_training_changes_nothing(scans, tmp_path, uninterrupted):
    make_trainer(tmp_path, scans, iterations=ITERATIONS).run()
    again = make_trainer(tmp_path, scans, iterations=ITERATIONS)
    assert again.run(resume=True).iteration == ITERATIONS
    assert same(weights(again), uninterrupted)
