"""A self-supervised task that trains in milliseconds, for tests of what all tasks have in common."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from SSLFewShotLib.imaging import Volume
from SSLFewShotLib.imaging.files import write_volume
from SSLFewShotLib.pretext.pool import ScanPool
from SSLFewShotLib.pretext.task import PretextTask
from SSLFewShotLib.pretext.trainer import Trainer, TrainerSettings
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.patches import cubic_patches
from SSLFewShotLib.sampling.preparation import Preparation
from torch import nn

SIDE = 5


class BrighterHalf(PretextTask):
    """How much brighter is the upper half of a cube than the lower one?"""

    name = "brighter-half"
    control_metric = "error"
    chance = 1.0
    higher_is_better = False
    preparation = Preparation(Extent("mm", 20.0), Intensity("zscore"), 0.05)

    def __init__(self, seed: int = 0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # Batch norm has running statistics to resume, channels-last another memory order.
            self.encoder = nn.Sequential(nn.Conv3d(1, 4, 3, bias=False), nn.BatchNorm3d(4), nn.LeakyReLU())
            self.head = nn.Linear(4 * (SIDE - 2) ** 3, 1)
        self.encoder.to(memory_format=torch.channels_last_3d)

    def modules(self):
        return nn.ModuleDict({"encoder": self.encoder, "head": self.head})

    def descriptor_modules(self):
        return {"cube": self.encoder}

    def sample(self, volumes, rng):
        which = rng.integers(len(volumes), size=6)
        positions = torch.as_tensor(volumes.draw_body_positions(which, rng), dtype=torch.float32)
        return {"cubes": cubic_patches(volumes, torch.as_tensor(which), positions, SIDE)}

    def loss(self, batch):
        cubes = batch["cubes"]
        target = cubes[:, 0, SIDE // 2 :].flatten(1).mean(1) - cubes[:, 0, : SIDE // 2].flatten(1).mean(1)
        error = self.head(self.encoder(cubes).flatten(1))[:, 0] - target
        return (error**2).mean(), {"error": error.detach().abs().mean()}

    def settings(self):
        return {}


def write_scans(folder: Path, count: int = 5) -> list[Path]:
    """Small scans of smooth noise."""
    paths = [folder / f"scan_{number}.nrrd" for number in range(count)]
    for number, path in enumerate(paths):
        noise = np.random.default_rng(number).normal(300, 50, (12, 13, 14)).cumsum(axis=0).astype(np.float32)
        write_volume(Volume.from_spacing(noise), path)
    return paths


def make_trainer(folder: Path, paths: list[Path], seed: int = 0, identity=None, **settings) -> Trainer:
    settings = {"scans_at_once": 2, "refresh_every": 7, "learning_rate": 1e-2, **settings}
    task = BrighterHalf(seed)
    pool = ScanPool(paths, task.preparation)
    return Trainer(
        task, pool, TrainerSettings(seed=seed, **settings), folder, torch.device("cpu"), identity=identity
    )


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    """All weights and running statistics."""
    return {key: tensor.clone() for key, tensor in trainer.module.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def stop_in(trainer: Trainer, iteration: int, error: BaseException) -> None:
    """Make `trainer` raise `error` when it comes to that iteration."""
    plain = trainer.task.sample

    def raising(*arguments, **keywords):
        if trainer.training.iteration == iteration:
            raise error
        return plain(*arguments, **keywords)

    trainer.task.sample = raising


if __name__ == "__main__":
    # A training that leaves a checkpoint after each iteration, slow enough to be killed on its way.
    torch.set_num_threads(1)
    work, iterations, *scans = sys.argv[1:]
    make_trainer(Path(work), [Path(s) for s in scans], iterations=int(iterations), checkpoint_minutes=0.0).run(
        on_checkpoint=lambda training: time.sleep(0.05)
    )
