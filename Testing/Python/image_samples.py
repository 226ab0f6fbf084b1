"""A small scan, labels with two segments, and how a refusal must read."""

import numpy as np
import pytest
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging import LabelMap, Segment, Volume
from SSLFewShotLib.imaging.files import read_volume

FORMATS = [".nrrd", ".nii.gz", ".nii", ".mha"]
TURN = np.array([[0.8, -0.6, 0], [0.48, 0.64, -0.6], [0.36, 0.48, 0.8]])
SHEARED = np.array([[0.9, 0.2, 0.0, 5], [0.0, 0.7, 0.8, 6], [0.0, 0.0, 2.5, 7], [0, 0, 0, 1.0]])


def scan(axes=None, shape=(5, 6, 7), kind=np.int16, **kwargs) -> Volume:
    array = np.random.default_rng(1).integers(-1000, 2000, shape).astype(kind)
    return Volume.from_spacing(array, (0.7, 1.1, 2.5), (-31.5, 12.25, 400.0), axes, **kwargs)


def organs(overlap: bool = False) -> LabelMap:
    grid = scan(TURN)
    one, two = np.zeros((2, 5, 6, 7), bool)
    one[1:4, 1:4, 1:4], two[2:5, (3 if overlap else 4) :, 3:6] = True, True
    segments = [Segment(3, "Brain stem", (1.0, 0.5, 0.0), "a^b~c"), Segment(7, "Größe 脑", (0.0, 0.0, 1.0))]
    return LabelMap.from_masks(grid, {"Brain stem": one, "Größe 脑": two}, segments)


def check_refused(path, pattern, read=read_volume):
    with pytest.raises(InputError, match=pattern) as error:
        read(path)
    message = str(error.value)
    assert path.name in message and "\n" not in message and "SimpleITK" not in message
