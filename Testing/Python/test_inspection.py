from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.imaging.files import read_volume, write_volume
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import ignore_progress
from SSLFewShotLib.worker.handler import checked
from SSLFewShotLib.worker.inspection import HANDLERS, colours_of
from SSLFewShotLib.worker.methods import all_methods
from SSLFewShotLib.worker.protocol import ProtocolError

CONTEXT = SimpleNamespace(progress=ignore_progress, warnings=[])
MOVED = np.array([12.0, -30.0, 7.0])


def run(method, **params):
    handler = HANDLERS[method]
    return handler.run(checked(params, handler.params), CONTEXT)


@pytest.fixture
def scans(tmp_path):
    """A body with three different blobs, and the same one moved in space, as files."""
    k, j, i = np.indices((24, 32, 32))
    body = ((j - 16) ** 2 + (i - 16) ** 2 < 15**2).astype(np.float32)
    array = np.where(body, 40.0, -1000.0)
    for (ck, cj, ci), value in {(8, 12, 10): 300.0, (12, 20, 20): -200.0, (16, 10, 20): 800.0}.items():
        array[(k - ck) ** 2 + (j - cj) ** 2 + (i - ci) ** 2 < 16] = value
    first = Volume.from_spacing(array.astype(np.int16), (3.0, 3.0, 3.0), modality="CT")
    second = Volume.from_spacing(array.astype(np.int16), (3.0, 3.0, 3.0), tuple(MOVED), modality="CT")
    paths = tmp_path / "first.nrrd", tmp_path / "second.nrrd"
    write_volume(first, paths[0])
    write_volume(second, paths[1])
    return first, paths


def test_the_worker_offers_both_methods():
    assert {"descriptor/map", "descriptor/similarity"} <= set(all_methods())


@pytest.mark.parametrize("voxel", [(10, 12, 8), (20, 20, 12), (20, 10, 16)])
def test_the_same_place_is_found_in_a_scan_that_was_moved(scans, tmp_path, voxel):
    first, paths = scans
    point = first.points_from_indices([voxel])[0]
    found = run(
        "descriptor/similarity",
        support_image=str(paths[0]),
        point=point.tolist(),
        target=str(paths[1]),
        spacing=3.0,
        output=str(tmp_path / "alike.nrrd"),
    )
    assert np.linalg.norm(np.array(found["point"]) - point - MOVED) < 1.0
    assert found["similarity"] > 0.99
    alike = read_volume(tmp_path / "alike.nrrd")
    best = np.unravel_index(alike.array.argmax(), alike.array.shape)[::-1]
    assert np.linalg.norm(alike.points_from_indices([best])[0] - point - MOVED) < 3.0
    assert alike.array.max() <= 1.001 and alike.array.min() == -1


def test_a_point_outside_of_the_marked_scan_is_refused(scans, tmp_path):
    _, paths = scans
    with pytest.raises(InputError, match="outside"):
        run(
            "descriptor/similarity",
            support_image=str(paths[0]),
            point=[1000.0, 0.0, 0.0],
            target=str(paths[1]),
            output=str(tmp_path / "alike.nrrd"),
        )


@pytest.mark.parametrize("point", [[1.0, 2.0], "1,2,3", [1.0, 2.0, None]])
def test_a_point_that_is_no_point_is_refused(point):
    with pytest.raises(ProtocolError, match="three numbers"):
        run("descriptor/similarity", support_image="a", point=point, target="b", output="c")


@pytest.mark.parametrize("kind", ["pca", "tsne"])
def test_a_map_has_colours_in_the_body_and_none_outside(scans, tmp_path, kind):
    _, paths = scans
    output = tmp_path / "colours.nrrd"
    told = run("descriptor/map", image=str(paths[0]), kind=kind, spacing=6.0, output=str(output))
    colours = _pixels(output)
    assert colours.dtype == np.uint8 and colours.shape[-1] == 3
    assert told["places"] > 100
    assert not colours[:, 0, 0].any()
    centre = tuple(n // 2 for n in colours.shape[:3])
    assert colours[centre].any()


def _pixels(path: Path):
    import SimpleITK

    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def test_like_vectors_get_like_colours():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 16)) * 5
    kinds = np.repeat([0, 1, 2], 60)
    colours = colours_of((centres[kinds] + rng.normal(size=(180, 16)) * 0.1).astype(np.float32), "pca").astype(
        float
    )
    means = np.array([colours[kinds == kind].mean(axis=0) for kind in range(3)])
    within = max(np.abs(colours[kinds == kind] - means[kind]).mean() for kind in range(3))
    apart = min(np.abs(means[a] - means[b]).max() for a in range(3) for b in range(a))
    assert apart > 3 * within
