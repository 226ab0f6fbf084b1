"""Phantoms and quick segmenters for what the tests of the nearest neighbours share."""

import functools

from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.descriptors.gvdiff import GreyValueDifferences
from SSLFewShotLib.imaging import LabelMap, SupportSet, Volume
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.segmentation.knn import KnnSegmenter

SIZE = (40, 32, 36)  # about 10 mm voxels
WINDOW = Intensity("window", -500.0, 1000.0)


class Patches(GreyValueDifferences):
    """Grey-value differences, a few of them: quick."""

    dimension = 32


def quick(extent: float = 120.0) -> Descriptor:
    return Patches(Extent("mm", extent), WINDOW)


@functools.cache
def patient(seed: int, geometry: str = "axial", size=SIZE, spacing=None) -> tuple[Volume, LabelMap]:
    return phantom(seed, size=size, spacing=spacing, geometry=geometry, name=f"patient_{seed}_{geometry}")


def with_segments(pair: tuple[Volume, LabelMap], *names: str) -> tuple[Volume, LabelMap]:
    """The same scan with only these segments marked."""
    volume, labels = pair
    masks = {name: labels.mask(name) for name in names}
    return volume, LabelMap.from_masks(volume, masks, labels.segments, labels.name)


def segmenter(**settings) -> KnnSegmenter:
    return KnnSegmenter(
        settings.pop("descriptor", None) or quick(), **{"spacing": 12.0, "background": 4000, **settings}
    )


@functools.cache
def fitted() -> KnnSegmenter:
    """On patient 0, all segments; not to be changed."""
    return segmenter(spacing=10.0).fit(SupportSet([patient(0)]))


@functools.cache
def on_itself() -> tuple[LabelMap, Volume]:
    return fitted().predict(patient(0)[0])
