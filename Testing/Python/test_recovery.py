"""A training whose loss becomes no number goes back to good weights, and on with a lower rate."""

import warnings
from pathlib import Path

import pytest
import torch
import toy_task
from SSLFewShotLib.errors import Cancelled, InputWarning
from SSLFewShotLib.pretext.checkpoint import CHECKPOINT_NAME
from toy_task import make_trainer, same, stop_in, weights

# Sums come out the same to the last bit in every process.
pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> list[Path]:
    return toy_task.write_scans(tmp_path_factory.mktemp("scans"))


def break_the_weights_after(trainer, iteration: int) -> None:
    """Have one step of that iteration leave weights that are no numbers."""
    plain = trainer.optimiser.step

    def step(*arguments, **keywords):
        result = plain(*arguments, **keywords)
        if trainer.training.iteration == iteration and not trainer.recovery.times:
            with torch.no_grad():
                trainer.task.head.weight.fill_(float("nan"))
        return result

    trainer.optimiser.step = step


def test_weights_that_broke_are_taken_back_and_the_rate_is_halved_from_there_on(scans, tmp_path):
    trainer = make_trainer(tmp_path, scans, iterations=30, schedule="constant")
    break_the_weights_after(trainer, 14)
    with pytest.warns(InputWarning, match="became nan at iteration 15: .*back to iteration 10 .*0.5 of the learn"):
        training = trainer.run()
    assert training.iteration == 30
    assert all(torch.isfinite(tensor).all() for tensor in weights(trainer).values())
    rates = {row["iteration"]: row["learning_rate"] for row in training.rows}
    assert rates[15] == 1e-2 and rates[17] == pytest.approx(5e-3) and rates[30] == pytest.approx(5e-3)
    assert 16 not in rates, "the iteration that failed has no loss to log"


def test_what_was_taken_back_is_exactly_what_was_there(scans, tmp_path):
    trainer = make_trainer(tmp_path, scans, iterations=30)
    break_the_weights_after(trainer, 14)
    seen = {}
    keep, go_back = trainer.recovery.keep, trainer.recovery.go_back

    def noting_keep(iteration):
        seen[iteration] = weights(trainer)
        keep(iteration)

    def noting_go_back(iteration, loss):
        go_back(iteration, loss)
        seen["back"] = weights(trainer)

    trainer.recovery.keep, trainer.recovery.go_back = noting_keep, noting_go_back
    with pytest.warns(InputWarning):
        trainer.run()
    assert same({k: v for k, v in seen["back"].items() if "head" in k},
                {k: v for k, v in seen[10].items() if "head" in k})  # fmt: skip


def test_a_training_without_such_a_loss_learns_at_the_full_rate_and_says_nothing(scans, tmp_path):
    trainer = make_trainer(tmp_path, scans, iterations=12, schedule="constant")
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        training = trainer.run()
    assert {row["learning_rate"] for row in training.rows} == {1e-2}


def test_a_lowered_rate_stays_lowered_after_an_interruption(scans, tmp_path):
    first = make_trainer(tmp_path, scans, iterations=30, schedule="constant")
    break_the_weights_after(first, 3)
    stop_in(first, 20, Cancelled())
    with pytest.warns(InputWarning), pytest.raises(Cancelled):
        first.run()
    second = make_trainer(tmp_path, scans, iterations=30, schedule="constant")
    training = second.run(resume=True)
    assert training.rows[-1]["learning_rate"] == pytest.approx(5e-3)


def test_a_checkpoint_from_before_there_was_such_a_thing_goes_on(scans, tmp_path):
    first = make_trainer(tmp_path, scans, iterations=20)
    stop_in(first, 10, Cancelled())
    with pytest.raises(Cancelled):
        first.run()
    state = torch.load(tmp_path / CHECKPOINT_NAME, weights_only=True)
    del state["recovery"], state["task"]
    torch.save(state, tmp_path / CHECKPOINT_NAME)
    assert make_trainer(tmp_path, scans, iterations=20).run(resume=True).iteration == 20


def test_a_task_can_end_the_training_before_its_budget_is_spent(scans, tmp_path):
    trainer = make_trainer(tmp_path, scans, iterations=30)
    trainer.task.has_enough = lambda iteration: iteration >= 12
    assert trainer.run().iteration == 12
