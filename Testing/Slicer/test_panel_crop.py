"""What is cropped keeps its voxels, and lies exactly where it was."""

from types import SimpleNamespace

import numpy as np
import pytest

from bridge_scene import add_bent
from tilted_grids import GRIDS, LPS, OBLIQUE, PARENTS, numbered, under


def add_roi(centre, size):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    node.SetCenter(*centre)
    node.SetSize(*size)
    return node


def cropped_to(volume, roi):
    """The new node; the steps of the job are taken at once."""
    import slicer
    from SSLFewShotSlicer.cropping import cropping

    generator = cropping([(volume, roi)])(SimpleNamespace(report=lambda *told: None))
    try:
        awaited = next(generator)
        while True:
            awaited = generator.send(awaited.result(10))
    except StopIteration as finished:
        return slicer.mrmlScene.GetNodeByID(finished.value[0])


@pytest.mark.parametrize("parents", PARENTS.values(), ids=PARENTS)
@pytest.mark.parametrize("geometry", GRIDS.values(), ids=GRIDS)
def test_every_voxel_of_a_crop_is_the_original_one_in_its_place(host, geometry, parents):
    import slicer
    from SSLFewShotSlicer.bridge import take_volume

    volume = numbered(geometry, under(parents))
    source = take_volume(volume)
    world = source.seen_geometry
    centre = world @ [8, 7, 6, 1]
    roi = add_roi(centre[:3], (4.0, 3.5, 5.0))
    cropped = cropped_to(volume, roi)
    voxels = slicer.util.arrayFromVolume(cropped)
    assert 0 < voxels.size < 12 * 14 * 16 / 2
    there = take_volume(cropped).seen_geometry
    for k, j, i in np.ndindex(voxels.shape):
        whole = np.linalg.solve(world, there @ [i, j, k, 1])[:3]
        at = tuple(np.rint(whole).astype(int)[::-1])
        assert np.abs(whole - at[::-1]).max() < 1e-9
        assert voxels[k, j, i] == slicer.util.arrayFromVolume(volume)[at]
    assert cropped.GetTransformNodeID() == volume.GetTransformNodeID()


def test_a_crop_holds_every_voxel_whose_centre_is_in_the_box_and_no_slice_more(host):
    from SSLFewShotSlicer.cropping import savings

    volume = numbered(np.eye(4))
    roi = add_roi((5.0, 6.0, 7.0), (4.0, 5.0, 0.2))  # 3..7, 3.5..8.5 and 7 alone
    assert savings(volume, roi) == ((16, 14, 12), (5, 5, 1), 16 * 14 * 12 * 2, 25 * 2)


def test_a_crop_has_voxels_of_its_own(host):
    import slicer

    volume = numbered(np.eye(4))
    roi = add_roi((5.0, 6.0, 7.0), (4.0, 4.0, 4.0))
    slicer.util.arrayFromVolume(cropped_to(volume, roi))[:] = -1
    assert (slicer.util.arrayFromVolume(volume) >= 0).all()


def test_a_box_in_a_bent_scan_holds_the_voxels_that_the_worker_saw(host):
    from SSLFewShotSlicer.bridge import place_box, take_volume
    from SSLFewShotSlicer.region import crop_of

    volume = numbered(OBLIQUE, add_bent())
    source = take_volume(volume)
    low, high = np.array([3, 4, 2]), np.array([9, 11, 8])
    placed = place_box(box_of_voxels(low, high), source, "box")
    assert placed.GetTransformNodeID() == volume.GetTransformNodeID()
    region = crop_of(source, placed)
    assert (region.low == low).all() and (region.high == high + 1).all()


def box_of_voxels(low, high, geometry=OBLIQUE):
    """The box around voxels low to high (i, j, k) of an oblique grid, as the worker gives it."""
    lengths = np.linalg.norm(geometry[:3, :3], axis=0)
    centre = geometry[:3, :3] @ ((low + high) / 2) + geometry[:3, 3]
    return {
        "centre": (LPS @ centre).tolist(),
        "size": ((high - low + 1) * lengths).tolist(),
        "axes": (LPS @ (geometry[:3, :3] / lengths)).T.tolist(),
    }


def test_a_box_outside_of_the_scan_is_told(host):
    from SSLFewShotSlicer.bridge import UnusableNodeError, take_volume
    from SSLFewShotSlicer.region import crop_of

    with pytest.raises(UnusableNodeError, match="box: lies outside of scan"):
        crop_of(take_volume(numbered(np.eye(4))), add_roi((500, 0, 0), (10, 10, 10)))
