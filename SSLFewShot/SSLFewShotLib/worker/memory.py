"""What a segmentation will need of the machine's memory, told before it starts; and giving memory back after it.

The numbers are bytes a voxel or point that the stages of a job hold at the same time, read off the arrays that
they make and held against measured peaks (Testing/Python/test_memory.py).
"""

from __future__ import annotations

import ctypes
import gc
import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.worker.devices import machine_memory

if TYPE_CHECKING:
    import numpy as np

    from SSLFewShotLib.segmentation.job import SegmentationJob

# How far off the estimate may be.
_MARGIN = 1.5
# Libraries that are loaded during the first job, and blocks that are free but cannot be given back.
_ANYWAY = 40_000_000
# Choosing points of a support: what is body, marked, near and far, as truth values, and distances.
_CHOOSING = 7
# Deciding on a scan's own grid: winner, labels, two masks, the confidence and its copy that is written.
_DECIDING = 11
# A slab that is decided at once (`segmentation.decision`): its voxels, coordinates, and two numbers a segment.
_SLAB_VOXELS, _SLAB, _SLAB_SEGMENT = 1_000_000, 32, 8
_SEGMENTS = 8
# An alignment: 5³ displacements of every second voxel along each axis, twice.
_DISPLACEMENTS = 2 * 125 * 4 // 8
# A field with a margin, and with its vectors together.
_COPIES = 4
# A scan as a descriptor sees it: voxels, body, and what preparing them takes for a moment.
_PREPARED, _PREPARING = 5, 16
# Twelve numbers of a voxel that are compared beside a field.
_STRUCTURE = 12 * 4
# MIND's field of a whole prepared scan: twelve numbers, and what computing them takes.
_MIND = 12 * 4 + 30
# Half of a lattice's nodes lie in the body and are described; their vectors are put together once.
_DESCRIBED, _VECTOR = 0.5, 2 * 4
# A batch of patches through the networks, for each point; a tile through a dense one (40³ voxels).
_PLANAR_POINT, _CUBIC_POINT, _TILE = 400_000, 1_000_000, 130_000_000

# Fine-tuning: how much each prepared voxel counts and whether it is held out; an iteration with two patches.
_WEIGHTS, _TRAINING = 5, 900_000_000


@dataclass(frozen=True)
class ScanSize:
    """What a scan's header says: voxels, bytes of one, layers, and the sides (3,) mm of its box."""

    voxels: int
    itemsize: int
    side: np.ndarray


def needed_for(job: SegmentationJob, supports: bool = True) -> int:
    """Bytes that a job will take beyond what the process holds: its largest stage, for its largest scan.

    supports: whether they have to be read; False for those that are warm already.

    Scans that cannot be read count nothing: reading them will say so. For scans of 128 × 128 × 100 to 512 × 512 ×
    400 voxels it was 0.8 to 1.9 times what was measured.
    """
    pairs = (
        [(scan_size(Path(image)), scan_size(Path(labels))) for image, labels in job.supports] if supports else []
    )
    images = [image for image, _ in pairs if image is not None]
    read = sum(size.voxels * size.itemsize for pair in pairs for size in pair if size is not None)
    stages = [read, *(read + image.voxels * _CHOOSING for image in images)]
    targets, unlabelled = _targets_of(job), _learned_from(job)
    stages += [read + sum(_describing(job, image, unlabelled)) for image in images]
    for target in targets:
        kept, meanwhile = _describing(job, target, unlabelled)
        here = read + target.voxels * target.itemsize
        slab = min(target.voxels, _SLAB_VOXELS) * (_SLAB + _SLAB_SEGMENT * _SEGMENTS)
        stages += [here + kept + meanwhile, here + kept + target.voxels * _DECIDING + slab]
    return _ANYWAY + int(max(stages))


def check(
    job: SegmentationJob,
    supports: bool = True,
    make_room: Callable[[], None] | None = None,
    memory: Callable[[], tuple[int | None, int | None]] = machine_memory,
) -> int:
    """Compare what a job needs with what the machine has; returns what it needs, in bytes.

    supports: as in `needed_for`; make_room: called when the memory is short, to let go what is only kept warm.

    Raises InputError when it is more than the machine has at all, or on Linux, where a program that takes too much
    is killed, far more than is free. Warns with `InputWarning` when the memory may not suffice.
    """
    needed = needed_for(job, supports)
    total, free = memory()
    if free is not None and needed > free and make_room is not None:
        make_room()
        give_back()
        total, free = memory()
    if total is None or free is None or needed <= free:
        return needed
    text = (
        f"about {_in_words(needed)} of memory are needed, the machine has {_in_words(total)}, of which "
        f"{_in_words(free)} are free; close other programs, take larger points (spacing), crop or resample the "
        "scans, or compute on a larger machine"
    )
    if needed > total or (sys.platform == "linux" and needed > _MARGIN * free):
        raise InputError(text)
    warnings.warn(f"it may become very slow or fail: {text}", InputWarning, stacklevel=2)
    return needed


def give_back() -> None:
    """Give back to the system what is not used any more: the graphics card's cache, and this process's heap.

    To be called once nothing holds on to what a job had. Cheap when there is nothing to give back.
    """
    gc.collect()
    if "torch" in sys.modules:
        from SSLFewShotLib.networks.device_memory import empty_cache

        empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; others give back by themselves
        if trim is not None:
            trim(0)


def scan_size(path: Path) -> ScanSize | None:
    """The size of a scan by its header alone; None for one that cannot be read."""
    import numpy as np

    from SSLFewShotLib.imaging.itk_images import matrix_of, read_header
    from SSLFewShotLib.imaging.volume import Volume

    try:
        files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
        header = read_header(files[0])
        size = [*header.GetSize(), 1, 1][:3]
        if path.is_dir():  # a DICOM series: its slices are counted, and taken for as far apart as pixels at least
            size[2] *= len(files)
        corners = Volume(np.broadcast_to(np.int8(0), size[::-1]), matrix_of(header)).corners()
    except (InputError, OSError, IndexError, RuntimeError):
        return None
    itemsize = _bytes_of(header.GetPixelID()) * header.GetNumberOfComponents()
    return ScanSize(math.prod(size), itemsize, corners.max(axis=0) - corners.min(axis=0))


def _bytes_of(pixel_id: int) -> int:
    import SimpleITK as sitk  # noqa: N813 - the name it goes by

    bits = "".join(letter for letter in sitk.GetPixelIDValueAsString(pixel_id) if letter.isdigit())
    return int(bits or 8) // 8


def _targets_of(job: SegmentationJob) -> list[ScanSize]:
    from SSLFewShotLib.imaging.cases import find_scans

    sizes = []
    for target in job.targets:
        try:
            sizes += [scan_size(path) for path in find_scans(Path(target))]
        except InputError:  # the job says what is wrong with it
            continue
    return [size for size in sizes if size is not None]


def _learned_from(job: SegmentationJob) -> int | None:
    """How many scans the best speed learns from beside the supports; None for a job that trains nothing there."""
    from SSLFewShotLib.segmentation.pseudo_labels import chosen_scans
    from SSLFewShotLib.segmentation.tuning_folder import joins_network

    settings = job.settings or {}
    if not joins_network(job.method, settings):
        return None
    try:
        return len(chosen_scans(settings.get("unlabelled") or job.targets))
    except InputError:  # the job says what is wrong with it
        return 0


def _describing(job: SegmentationJob, scan: ScanSize, unlabelled: int | None = None) -> tuple[int, int]:
    """Bytes that describing a scan holds until its end, and for the time being; unlabelled: `_learned_from`."""
    if job.method == "box":
        return 0, math.prod(scan.side / 2.5) * _PREPARING
    if job.method in ("finetune", "tuned"):
        return _tuning(job, scan)
    parts = _parts(job, scan)
    unit = min(part.unit for part in parts)
    spacing = (job.settings or {}).get("spacing") or unit / 20
    points = _DESCRIBED * math.prod(scan.side / spacing + 1)
    grids = [math.prod(scan.side / (part.unit * part.step) + 1) for part in parts]
    kept = sum(grid * (_PREPARED + part.field) for grid, part in zip(grids, parts, strict=True))
    meanwhile = max(grid * _PREPARING for grid in grids) + max(part.batch for part in parts)
    if job.method not in ("knn", "prototype") and all(part.aligns for part in parts):
        # Fields that are joined lie on the grid of the first. Each scan has a field and its structure; both are
        # compared together, those of a support once they are moved and joined. Then there is how well each
        # displacement fits on a grid half as fine; or, where places around vote, a field put in order.
        field, structure = grids[0] * sum(part.field for part in parts), grids[0] * _STRUCTURE
        kept += len(job.supports) * (field + structure) + structure
        compared = field + structure
        meanwhile += max(3 * compared, 2 * compared + grids[0] * _DISPLACEMENTS, _COPIES * field)
    kept += points * _VECTOR * sum(part.dimension for part in parts)
    if unlabelled is not None:
        tuned, training = _tuning(job, scan, unlabelled)
        kept, meanwhile = kept + tuned, max(meanwhile, training)
    return int(kept), int(meanwhile)


def _tuning(job: SegmentationJob, scan: ScanSize, unlabelled: int = 0) -> tuple[int, int]:
    """Likewise for fine-tuning: prepared scans with soft masks, a training, and probabilities of a whole scan."""
    from SSLFewShotLib.pretext.dense import STEP

    part = _parts(job, scan)[0]
    grid = math.prod(scan.side / (part.unit * STEP) + 1)
    held = (1 + len(job.supports) + unlabelled) * grid * (_PREPARED + _WEIGHTS) + grid * 4 * _SEGMENTS
    batch = _TILE if job.method == "tuned" else _TRAINING
    return int(held), int(max(grid * _PREPARING, batch))


@dataclass(frozen=True)
class _Part:
    """One descriptor: mm a unit, units a step of its grid, numbers a point, bytes a batch and a grid voxel.

    aligns: whether scans are aligned by it where the method is not said to be another.
    """

    unit: float
    step: float
    dimension: int
    batch: int = 0
    field: int = 0
    aligns: bool = False


def _parts(job: SegmentationJob, scan: ScanSize) -> list[_Part]:
    """The descriptors of a job; one that is not known counts like the default, and is named by the job itself."""
    from SSLFewShotLib.descriptors import gvdiff, mind
    from SSLFewShotLib.descriptors.context import CubicDescriptor, PlanarDescriptor
    from SSLFewShotLib.descriptors.loading import TRAINING_FREE, joined_names
    from SSLFewShotLib.models import ModelStore
    from SSLFewShotLib.pretext import dense
    from SSLFewShotLib.pretext.doersch import cubic_preparation
    from SSLFewShotLib.pretext.planar_offset import planar_preparation
    from SSLFewShotLib.sampling.extent import LARGE_BODY_UNIT, SMALL_SCAN_UNIT, Extent
    from SSLFewShotLib.sampling.intensity import Intensity

    side = max(math.prod(scan.side) ** (1 / 3), 1.0)
    suited = min(LARGE_BODY_UNIT, SMALL_SCAN_UNIT * side)
    planar = planar_preparation(Extent(), Intensity()).step
    cubic = cubic_preparation(Extent(), Intensity()).step
    found = []
    for name in joined_names(job.model or _default(job, suited)):
        unit, network = suited, "D2D"
        if name not in TRAINING_FREE:
            try:
                card = ModelStore().find(name).card
            except InputError:
                continue
            network = card.architecture["name"]
            if card.extent["unit"] != "suited":
                unit = float(card.extent.get("scale", suited)) if card.extent["unit"] == "mm" else side / 2
        if name == "gvdiff":
            found.append(_Part(unit, gvdiff.STEP, gvdiff.GreyValueDifferences.dimension))
        elif name == "mind":
            found.append(_Part(unit, mind.STEP, mind.MindSsc.dimension, field=_MIND))
        elif network == "UNet3d":
            outputs = card.architecture["settings"]["outputs"]
            # The field of the whole scan, and the vectors at points that are read from it.
            found.append(_Part(unit, dense.STEP, outputs, _TILE, outputs * 4, aligns=True))
        elif network == "D3D":
            batch = CubicDescriptor.batch_size * _CUBIC_POINT
            found.append(_Part(unit, cubic, CubicDescriptor.dimension, batch))
        else:
            batch = PlanarDescriptor.batch_size * _PLANAR_POINT
            found.append(_Part(unit, planar, PlanarDescriptor.dimension, batch))
    return found or [_Part(suited, planar, PlanarDescriptor.dimension)]


def _default(job: SegmentationJob, unit: float) -> str:
    """What is taken where no model is named; the modality, which also counts, is not in a header."""
    from SSLFewShotLib.segmentation.choice import DEFAULT_MODEL, models_for, to_align_with

    if job.method in ("auto", "aligned", "prototype", "finetune"):
        dense = [card for card in models_for(unit, None) if card.method == "dense"]
        if dense:
            return to_align_with(dense, unit) if job.method in ("auto", "aligned") else dense[0].name
    return DEFAULT_MODEL


def _in_words(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
