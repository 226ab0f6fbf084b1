"""The trainer: same seed, same weights, interrupted or not; budgets; checkpoints; scans that cannot be read."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_task
from SSLFewShotLib.errors import Cancelled, InputError, InputWarning
from SSLFewShotLib.imaging import Volume
from SSLFewShotLib.imaging.files import write_volume
from SSLFewShotLib.pretext.checkpoint import CHECKPOINT_NAME
from SSLFewShotLib.pretext.pool import ScanPool
from SSLFewShotLib.pretext.trainer import TrainerSettings
from toy_task import BrighterHalf, make_trainer, weights

ITERATIONS = 40


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Sums come out the same to the last bit in every process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> list[Path]:
    return toy_task.write_scans(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def uninterrupted(scans, tmp_path_factory) -> dict[str, torch.Tensor]:
    trainer = make_trainer(tmp_path_factory.mktemp("whole"), scans, iterations=ITERATIONS)
    trainer.run()
    return weights(trainer)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def stop_in(trainer, iteration: int, error: BaseException, moment: str = "sample"):
    """Make `trainer` raise `error` when it comes to that iteration."""
    owner = trainer.task if moment == "sample" else trainer.optimiser
    name = "sample" if moment == "sample" else "step"
    plain = getattr(owner, name)

    def raising(*arguments, **keywords):
        if trainer.training.iteration == iteration:
            raise error
        return plain(*arguments, **keywords)

    setattr(owner, name, raising)


# Same seed, same weights


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


# Budgets and rates


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


# What goes wrong


def test_a_loss_that_is_no_number_is_an_error_that_names_the_remedy(scans, tmp_path):
    trainer = make_trainer(tmp_path, scans, iterations=ITERATIONS)
    plain = trainer.task.loss

    def diverging(batch):
        loss, metrics = plain(batch)
        return loss * (float("nan") if trainer.training.iteration >= 5 else 1.0), metrics

    trainer.module.task_loss = diverging
    with pytest.raises(InputError, match=r"the loss is nan at iteration 6; .*--overwrite .*lower --learning-rate"):
        trainer.run()


def test_there_must_be_a_checkpoint_to_resume_from(scans, tmp_path):
    with pytest.raises(InputError, match="no checkpoint to resume from"):
        make_trainer(tmp_path, scans, iterations=5).run(resume=True)


@pytest.mark.parametrize(
    "other, key",
    [({"seed": 1}, "seed"), ({"iterations": 6}, "iterations"), ({"learning_rate": 0.5}, "learning_rate"),
     ({"identity": {"batch_size": 3}}, "batch_size")],
)  # fmt: skip
def test_a_checkpoint_of_other_settings_is_refused_and_the_setting_named(scans, tmp_path, other, key):
    make_trainer(tmp_path, scans, iterations=5).run()
    with pytest.raises(InputError, match=f"made with {key} = "):
        make_trainer(tmp_path, scans, **{"iterations": 5, **other}).run(resume=True)


def damaged(kind: str, content: bytes) -> bytes:
    middle = len(content) // 2
    return {
        "cut short": content[:middle],
        "empty": b"",
        "zeros": bytes(len(content)),
        "text": b"hello world\n" * 40,
        "a bit of a weight": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
    }[kind]


@pytest.mark.parametrize("kind", ["cut short", "empty", "zeros", "text", "a bit of a weight"])
def test_a_damaged_checkpoint_is_refused_in_one_line(scans, tmp_path, kind):
    make_trainer(tmp_path, scans, iterations=5).run()
    path = tmp_path / CHECKPOINT_NAME
    path.write_bytes(damaged(kind, path.read_bytes()))
    with pytest.raises(InputError, match="is damaged; start again with --overwrite") as caught:
        make_trainer(tmp_path, scans, iterations=5).run(resume=True)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_checkpoint_of_another_kind_or_another_network_is_refused(scans, tmp_path):
    make_trainer(tmp_path, scans, iterations=5).run()
    path = tmp_path / CHECKPOINT_NAME
    state = torch.load(path, weights_only=True)
    torch.save(torch.zeros(3), path)
    with pytest.raises(InputError, match="is damaged"):
        make_trainer(tmp_path, scans, iterations=5).run(resume=True)
    state["parts"].popitem()
    torch.save(state, path)
    with pytest.raises(InputError, match="does not fit the networks"):
        make_trainer(tmp_path, scans, iterations=5).run(resume=True)


class Payload:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_checkpoint_cannot_run_code(scans, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"identity": {}, "payload": Payload()}, tmp_path / CHECKPOINT_NAME)
    with pytest.raises(InputError, match="is damaged"):
        make_trainer(tmp_path, scans, iterations=5).run(resume=True)
    assert not (tmp_path / "executed").exists()


# Scans


def unreadable(folder: Path) -> Path:
    path = folder / "broken.nrrd"
    path.write_bytes(b"NRRD0004\ntype: short\n")
    return path


def test_a_scan_that_cannot_be_read_is_named_once_and_left_out(scans, tmp_path):
    broken = unreadable(tmp_path)
    trainer = make_trainer(tmp_path / "work", [broken, *scans[:2]], iterations=20, refresh_every=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.run()
    named = [str(w.message) for w in caught if issubclass(w.category, InputWarning)]
    assert len(named) == 1 and named[0].startswith("skipped: ") and str(broken) in named[0]
    assert list(trainer.pool.skipped) == [broken]


def test_a_skipped_scan_does_not_change_what_a_resumed_training_comes_to(scans, tmp_path):
    paths = [scans[0], unreadable(tmp_path), *scans[1:]]
    results = []
    with pytest.warns(InputWarning):
        for folder, stop in (("whole", None), ("parts", 17)):
            trainer = make_trainer(tmp_path / folder, paths, iterations=30)
            if stop:
                stop_in(trainer, stop, Cancelled())
                with pytest.raises(Cancelled):
                    trainer.run()
                trainer = make_trainer(tmp_path / folder, paths, iterations=30)
            trainer.run(resume=bool(stop))
            results.append(weights(trainer))
    assert same(*results)


def test_when_no_scan_can_be_read_the_reasons_are_given(tmp_path):
    trainer = make_trainer(tmp_path / "work", [unreadable(tmp_path)], iterations=5)
    with (
        pytest.warns(InputWarning),
        pytest.raises(InputError, match=r"none of the 1 scans can be read: .*broken\.nrrd"),
    ):
        trainer.run()


def test_a_pool_keeps_no_more_scans_than_its_memory_allows_and_draws_the_same(scans):
    preparation = BrighterHalf.preparation
    large = ScanPool(scans, preparation)
    one = large.get(scans[0]).nbytes
    small = ScanPool(scans, preparation, memory_limit=int(2.5 * one))
    for seed in range(6):
        names = [
            [scan.name for scan in pool.draw(3, np.random.default_rng(seed)).scans] for pool in (large, small)
        ]
        assert names[0] == names[1] and len(set(names[0])) == 3
        assert sum(scan.nbytes for scan in small._kept.values()) <= 2.5 * one
    assert len(large._kept) == len(scans)


def test_a_pool_smaller_than_asked_for_gives_all_it_has(scans):
    assert len(ScanPool(scans[:2], BrighterHalf.preparation).draw(8, np.random.default_rng(0))) == 2


def test_a_scan_of_vectors_is_left_out_like_one_that_cannot_be_read(scans, tmp_path):
    field = tmp_path / "field.nrrd"
    write_volume(Volume.from_spacing(np.ones((4, 4, 4, 3), np.float32)), field)
    pool = ScanPool([field, scans[0]], BrighterHalf.preparation)
    with pytest.warns(InputWarning, match=r"field\.nrrd"):
        assert [scan.name for scan in pool.draw(2, np.random.default_rng(0)).scans] == ["scan_0.nrrd"]
