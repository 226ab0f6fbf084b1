"""What a training cannot go on with is refused in one line: a loss that is none, a checkpoint that is damaged."""

import os
from pathlib import Path

import pytest
import torch
import toy_task
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.pretext.checkpoint import CHECKPOINT_NAME
from toy_task import make_trainer

ITERATIONS = 40

# Sums come out the same to the last bit in every process.
pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> list[Path]:
    return toy_task.write_scans(tmp_path_factory.mktemp("scans"))


@pytest.mark.filterwarnings("ignore:the loss became nan")
def test_a_loss_that_stays_no_number_is_an_error_that_names_the_remedy(scans, tmp_path):
    trainer = make_trainer(tmp_path, scans, iterations=ITERATIONS)
    plain = trainer.task.loss

    def diverging(batch):
        loss, metrics = plain(batch)
        return loss * (float("nan") if trainer.training.iteration >= 5 else 1.0), metrics

    trainer.module.task_loss = diverging
    with pytest.raises(InputError, match=r"loss is nan at iteration 13, .*overwriting it, .*lower learning rate"):
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
    with pytest.raises(InputError, match="is damaged; start again, overwriting it") as caught:
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
