"""Segmenting a scan that shows much more than the support: cropped first to what the support's scans show.

Cropped so, the scan is like the support's: descriptors, the place in the body and time are those of an ordinary
one. A scan is cropped to the region of the support's whole scan, not to that of its marked structures, and with a
margin: no voxel of them must be lost.
"""

from __future__ import annotations

import weakref

import numpy as np
import torch

from SSLFewShotLib.descriptors.dense import DenseDescriptor
from SSLFewShotLib.descriptors.loading import load_descriptor
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.box import Box
from SSLFewShotLib.imaging.crop import CropRange, crop, crop_range
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.support import SupportSet
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion
from SSLFewShotLib.segmentation.choice import fitting_models
from SSLFewShotLib.segmentation.segmenter import Segmenter
from SSLFewShotLib.segmentation.support_region import SupportRegions

CROPS = ("auto", "never", "always")
MUCH_LARGER = 4.0
"""Of a scan's volume over that of the largest support. Scans of one protocol differ by less: those of head and
neck in the README by up to 2.8."""
LEAST_CERTAINTY = 0.35
_MARGIN_SHARE, _LEAST_MARGIN = 0.15, 20.0
"""Of the region's sides, and mm, added on every side."""

_regions: weakref.WeakKeyDictionary[SupportSet, SupportRegions] = weakref.WeakKeyDictionary()


def check_crop(crop: str) -> None:
    """Raise InputError unless `crop` is one of `CROPS`."""
    if crop not in CROPS:
        raise InputError(f"crop '{crop}': one of {', '.join(CROPS)} was expected")


def predict_cropped(
    segmenter: Segmenter,
    support: SupportSet | None,
    volume: Volume,
    crop_to: str = "auto",
    device: torch.device | str = "cpu",
    progress: Progress = ignore_progress,
) -> tuple[LabelMap, Volume, Box | None]:
    """Label a scan with a fitted segmenter, cropped to the region of the support where that is called for.

    crop_to: "auto" (where the scan is at least `MUCH_LARGER` times as large as the support's, and the region is
        found with certainty), "never", or "always". Cropping needs a dense model: the segmenter's own, or one that
        fits the support.

    Without a support it is never cropped. Returns labels and confidence on the scan's own grid, and what it was
    cropped to, None when it was not. Beyond the crop everything is background. Raises InputError for another
    `crop_to`, and for "always" when there is no dense model or the region is not found.
    """
    check_crop(crop_to)
    box = None
    if support is None:
        if crop_to == "always":
            raise InputError(f"{volume.name}: there is no marked scan to crop it to; leave the crop to 'auto'")
        return *segmenter.predict(volume, progress), None
    if crop_to == "always" or (crop_to == "auto" and _is_much_larger(volume, support)):
        box = region_of(support, segmenter, volume, device, crop_to == "always", portion(progress, 0.0, 0.2))
    if box is None:
        return *segmenter.predict(volume, progress), None
    part = crop_range(volume, box)
    labels, confidence = segmenter.predict(crop(volume, box), portion(progress, 0.2, 0.98))
    return _labels_on_whole(labels, part, volume), _confidence_on_whole(confidence, part, volume), box


def region_of(
    support: SupportSet,
    segmenter: Segmenter,
    volume: Volume,
    device: torch.device | str = "cpu",
    must: bool = False,
    progress: Progress = ignore_progress,
) -> Box | None:
    """The box of what the support's scans show, with a margin.

    None when it is not found; InputError instead with `must`.
    """
    regions = _regions.get(support)
    if regions is None:
        descriptor = _dense(segmenter, support, device)
        if descriptor is None:
            if must:
                raise InputError(
                    f"{volume.name}: cropping needs a dense model for scans like the support's; pretrain one "
                    "(method dense), or leave the crop to 'auto'"
                )
            return None
        regions = SupportRegions(descriptor).fit(support, portion(progress, 0.0, 0.5))
        _regions[support] = regions
    found = regions.find_shown(volume, portion(progress, 0.5, 1.0))
    box = None
    if found.certainty >= LEAST_CERTAINTY:
        margin = np.maximum(_MARGIN_SHARE * found.box.size, _LEAST_MARGIN)
        box = Box(found.box.centre, found.box.size + 2 * margin, found.box.axes, "support region", found.certainty)
        box = box.clipped(volume)
    if box is None and must:
        raise InputError(f"{volume.name}: what the support shows was not found in it; leave the crop to 'auto'")
    return box


def _is_much_larger(volume: Volume, support: SupportSet) -> bool:
    largest = max(_extent(scan) for scan, _ in support)
    return _extent(volume) >= MUCH_LARGER * largest


def _extent(volume: Volume) -> float:
    return volume.voxel_volume * float(np.prod(volume.size, dtype=np.float64))


def _dense(segmenter: Segmenter, support: SupportSet, device: torch.device | str) -> DenseDescriptor | None:
    own = getattr(segmenter, "descriptor", None)
    if isinstance(own, DenseDescriptor):
        return own
    like = support.pairs[0][0]
    names = [card.name for card in fitting_models(like) if card.method == "dense"]
    return load_descriptor(names[0], like, device) if names else None


def _labels_on_whole(labels: LabelMap, part: CropRange, volume: Volume) -> LabelMap:
    array = np.zeros((*volume.array.shape, *labels.array.shape[3:]), labels.array.dtype)
    array[part.slices] = labels.array
    return LabelMap(array, volume.ijkToLps, labels.name, segments=labels.segments, layers=dict(labels.layers))


def _confidence_on_whole(confidence: Volume, part: CropRange, volume: Volume) -> Volume:
    array = np.ones(volume.array.shape, np.float32)
    array[part.slices] = confidence.array
    return volume.with_array(array)
