"""The synthetic cohorts."""

import numpy as np
import pytest
from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.imaging import SupportSet
from SSLFewShotLib.imaging.body import body_mask
from SSLFewShotLib.imaging.phantoms import phantom, phantom_cohort, write_cohort

SMALL = (60, 48, 44)


def centres(labels) -> dict[str, np.ndarray]:
    """LPS mm of the middle of each segment."""
    return {
        s.name: labels.points_from_indices(np.argwhere(labels.mask(s))[:, ::-1].mean(axis=0)[None])[0]
        for s in labels.segments
    }


def test_the_same_seed_gives_the_same_patient_and_another_seed_another_one():
    one, again, other = (phantom(seed, size=SMALL) for seed in (3, 3, 4))
    assert np.array_equal(one[0].array, again[0].array) and np.array_equal(one[1].array, again[1].array)
    assert np.array_equal(one[0].ijkToLps, again[0].ijkToLps)
    assert not np.array_equal(one[1].array, other[1].array)


def test_a_cohort_has_the_same_named_coloured_segments_in_every_patient():
    cohort = phantom_cohort(4, size=SMALL)
    first = cohort[0][1].segments
    assert {"Liver", "Spleen", "LeftKidney", "RightKidney", "SpinalCord", "Aorta"} <= {s.name for s in first}
    for volume, labels in cohort:
        assert labels.segments == first
        assert volume.same_grid(labels)
        assert all(labels.mask(s).any() for s in first)
    assert len(SupportSet(cohort).segments) == len(first)


def test_a_terminology_entry_has_the_seven_parts_that_slicer_expects():
    _, labels = phantom(0, size=SMALL)
    for segment in labels.segments:
        parts = segment.terminology.split("~")
        assert len(parts) == 7
        assert all(part.count("^") == 2 for part in parts[1:4] + parts[5:])


@pytest.mark.parametrize("geometry", ["axial", "oblique", "sheared"])
def test_left_is_left_and_right_is_right_in_every_geometry(geometry):
    for seed in range(4):
        middle = centres(phantom(seed, size=SMALL, geometry=geometry)[1])
        assert middle["LeftKidney"][0] > middle["SpinalCord"][0] + 30
        assert middle["RightKidney"][0] < middle["SpinalCord"][0] - 30
        assert middle["Liver"][0] < middle["Spleen"][0]
        assert middle["Aorta"][1] < middle["SpinalCord"][1]
        assert middle["LeftKidney"][2] < middle["Liver"][2]


def test_one_seed_is_the_same_anatomy_in_both_modalities():
    ct, mr = phantom(1, "CT", SMALL), phantom(1, "MR", SMALL)
    assert np.array_equal(ct[1].array, mr[1].array)
    assert (ct[0].modality, mr[0].modality) == ("CT", "MR")
    assert ct[0].array.dtype == np.int16 and mr[0].array.dtype == np.uint16
    liver, kidney = ct[1].mask("Liver"), ct[1].mask("LeftKidney")
    assert ct[0].array[liver].mean() < ct[0].array[kidney].mean()
    assert mr[0].array[liver].mean() > mr[0].array[kidney].mean()


@pytest.mark.parametrize("geometry", ["oblique", "sheared"])
def test_one_seed_is_the_same_anatomy_on_any_grid(geometry):
    axial, other = phantom(2, size=SMALL)[1], phantom(2, size=SMALL, geometry=geometry)[1]
    # Whole organs only: a turned field of view cuts the long ones elsewhere.
    for name in ("LeftKidney", "RightKidney", "Spleen"):
        assert np.allclose(centres(axial)[name], centres(other)[name], atol=3)
        assert axial.mask(name).sum() * axial.voxel_volume == pytest.approx(
            other.mask(name).sum() * other.voxel_volume, rel=0.1
        )


def test_oblique_axes_are_at_right_angles_and_sheared_ones_are_not():
    for geometry, right_angles in (("axial", True), ("oblique", True), ("sheared", False)):
        volume, _ = phantom(5, size=SMALL, geometry=geometry)
        assert np.allclose(volume.direction.T @ volume.direction, np.eye(3), atol=1e-6) == right_angles
        assert np.allclose(np.abs(volume.direction), np.eye(3)) == (geometry == "axial")
    flips = {
        tuple(np.sign(np.diag(phantom(n, size=(8, 8, 8), geometry="oblique")[0].direction))) for n in range(9)
    }
    assert len(flips) > 2


def test_ct_values_are_hounsfield_units():
    volume, labels = phantom(0)
    assert volume.array.min() >= -1024 and volume.array.max() > 400
    assert np.median(volume.array[0, 0]) == pytest.approx(-1000, abs=60)
    for name, low, high in (("Liver", 50, 130), ("Spleen", 60, 140), ("SpinalCord", 0, 120)):
        assert low < volume.array[labels.mask(name)].mean() < high


def test_the_air_of_an_mr_has_rician_noise_and_its_coil_a_bias():
    volume, _ = phantom(0, "MR")
    air = volume.array[:, :3, :].astype(float)
    # Rayleigh: mean / standard deviation = sqrt(pi / (4 - pi)) = 1.913.
    assert air.mean() / air.std() == pytest.approx(1.913, abs=0.1)
    values, k = volume.array.astype(float), np.arange(volume.size[2])[:, None, None]
    air_level, fat = air.mean(), values > 0.6 * values.max()
    thirds = [values[fat & (k // 24 == n)].mean() for n in range(3)]
    assert max(thirds) / min(thirds) > 1.03 and air_level < 0.1 * min(thirds)


def test_the_body_of_a_ct_phantom_is_found_without_its_table():
    volume, labels = phantom(0)
    mask = body_mask(volume)
    assert mask[labels.array > 0].all()
    assert 0.25 < mask.mean() < 0.6
    middle = mask[:, :, volume.size[0] // 2]
    table = volume.array[:, -8:, volume.size[0] // 2] > -300
    assert table.any() and not middle[:, -8:][table].any()


def test_size_and_spacing_are_taken_as_given():
    volume, _ = phantom(0, size=(20, 18, 16), spacing=(5.0, 6.0, 7.0))
    assert volume.size == (20, 18, 16) and np.allclose(volume.spacing, (5, 6, 7))


@pytest.mark.parametrize(
    "wrong", [{"modality": "US"}, {"geometry": "round"}, {"size": (0, 8, 8)}, {"spacing": (1, 0, 1)}]
)
def test_what_no_phantom_can_be_made_of_is_refused(wrong):
    with pytest.raises(InputError):
        phantom(0, **{"size": (8, 8, 8), **wrong})


def test_a_cohort_can_be_cancelled():
    def cancel(fraction, message):
        if fraction > 0:
            raise Cancelled

    with pytest.raises(Cancelled):
        phantom_cohort(3, size=(8, 8, 8), progress=cancel)


def test_a_written_cohort_is_read_back_and_nothing_is_overwritten(tmp_path):
    files = pytest.importorskip("SSLFewShotLib.imaging.files")
    images = write_cohort(tmp_path, 3, labelled=2, modality="MR", size=SMALL, geometry="sheared")
    assert [path.name for path in images] == [f"phantom_00{n}_mr.nrrd" for n in range(3)]
    assert sorted(p.name for p in tmp_path.glob("*.seg.nrrd")) == ["phantom_000.seg.nrrd", "phantom_001.seg.nrrd"]
    expected, labels = phantom((0, 1), "MR", SMALL, geometry="sheared")
    volume, read = files.read_volume(images[1]), files.read_labels(tmp_path / "phantom_001.seg.nrrd")
    assert np.array_equal(volume.array, expected.array) and volume.same_grid(expected)
    assert all(np.array_equal(read.mask(s.name), labels.mask(s.name)) for s in labels.segments)
    with pytest.raises(InputError, match="overwrite"):
        write_cohort(tmp_path, 1, size=SMALL, modality="MR")
