"""Segmentation by prototypes: on made patients, with bad input, in the command and in evaluations."""

import json
import warnings

import numpy as np
import pytest
import torch
from command_line import sslfewshot
from SSLFewShotLib.descriptors.dense import DenseDescriptor
from SSLFewShotLib.errors import Cancelled, InputError, InputWarning
from SSLFewShotLib.evaluation.contenders import PrototypeContender
from SSLFewShotLib.imaging import LabelMap, SupportSet, Volume
from SSLFewShotLib.imaging.cases import find_cases, read_case, select_cases
from SSLFewShotLib.imaging.labelmap import Segment
from SSLFewShotLib.imaging.phantoms import phantom, write_cohort
from SSLFewShotLib.networks.unet3d import UNet3d
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.segmentation.choice import make_segmenter
from SSLFewShotLib.segmentation.knn import KnnSegmenter
from SSLFewShotLib.segmentation.prototype import PrototypeSegmenter
from SSLFewShotLib.segmentation.support_prototypes import _with_places, probabilities
from worker_process import WORKER, WorkerProcess

CT = Intensity("window", -500.0, 1000.0)
SIZE = (40, 32, 36)


class GreyValues(DenseDescriptor):
    """Vectors that turn with the grey value: what is as bright is alike, whatever is around it."""

    def _computed(self, scan, progress):
        angle = np.pi * (scan.values.numpy() + 1) / 2
        return np.stack([np.cos(angle), np.sin(angle)]).astype(np.float32)


@pytest.fixture(scope="module")
def descriptor() -> DenseDescriptor:
    """10 mm a voxel."""
    return GreyValues(UNet3d(1, 2, 2, 1), Extent("mm", 300.0), CT, "small")


def patient(seed: int = 0, size=SIZE, **keywords) -> tuple[Volume, LabelMap]:
    return phantom(seed, "CT", size, **keywords)


def a_block() -> tuple[Volume, LabelMap]:
    """A body of tissue with one brighter block, 10 mm voxels."""
    image = np.full((20, 20, 20), 40, np.int16)
    image[6:14, 6:14, 6:14] = 600
    volume = Volume.from_spacing(image, (10.0,) * 3, modality="CT")
    labels = (image > 100).astype(np.uint8)
    return volume, LabelMap(labels, volume.ijkToLps, "block", segments=[Segment(1, "Block")])


def dice(found: LabelMap, truth: LabelMap, name: str) -> float:
    one, other = found.mask(name), truth.mask(name)
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def quiet_fit(segmenter: PrototypeSegmenter, *pairs) -> PrototypeSegmenter:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        return segmenter.fit(SupportSet(pairs))


def test_a_block_is_found_again_where_it_was_marked_and_in_a_scan_that_was_shifted(descriptor):
    volume, labels = a_block()
    segmenter = PrototypeSegmenter(descriptor).fit(SupportSet([(volume, labels)]))
    found, confidence = segmenter.predict(volume)
    assert dice(found, labels, "Block") > 0.8 and found.same_grid(volume) and confidence.same_grid(volume)
    assert confidence.array.min() >= 0 and confidence.array.max() <= 1
    shifted = Volume(np.roll(volume.array, 2, axis=2), volume.ijkToLps, "shifted", "CT")
    moved = LabelMap(np.roll(labels.array, 2, axis=2), volume.ijkToLps, "moved", segments=labels.segments)
    assert dice(segmenter.predict(shifted)[0], moved, "Block") > 0.6


def test_the_organs_of_another_patient_get_the_supports_names_and_colours(descriptor):
    support, query = patient(0), patient(1)
    found, _ = quiet_fit(PrototypeSegmenter(descriptor), support).predict(query[0])
    assert found.mask("Liver").any() and found.array.shape == query[0].array.shape
    assert {segment.name for segment in found.segments} == {segment.name for segment in support[1].segments}


def test_the_same_scans_give_the_same_labels_each_time(descriptor):
    pairs = [quiet_fit(PrototypeSegmenter(descriptor), patient(0)).predict(patient(1)[0]) for _ in range(2)]
    for one, other in zip(*pairs, strict=True):
        assert np.array_equal(one.array, other.array)


def test_prototypes_of_several_supports_are_pooled(descriptor):
    one, both = (quiet_fit(PrototypeSegmenter(descriptor), *map(patient, seeds)) for seeds in ((0,), (0, 2)))
    assert len(both.prototypes_.vectors) > len(one.prototypes_.vectors)
    assert both.prototypes_.names == one.prototypes_.names


def test_a_support_says_nothing_of_a_structure_that_it_has_not_marked(descriptor):
    (first, block), (second, _) = a_block(), a_block()
    second.array[0:4, 0:4, 0:4] = -100
    marked = np.where(second.array == -100, 1, 0).astype(np.uint8)
    corner = LabelMap(marked, second.ijkToLps, "corner", segments=[Segment(1, "Fat")])
    segmenter = PrototypeSegmenter(descriptor).fit(SupportSet([(first, block), (second, corner)]))
    alone = PrototypeSegmenter(descriptor).fit(SupportSet([(first, block)]))
    names, of_first = segmenter.prototypes_.names, len(alone.prototypes_.vectors)
    tables = segmenter.prototypes_.foreground | segmenter.prototypes_.background
    assert names == ["Block", "Fat"]
    assert not tables[of_first:, 0].any() and not tables[:of_first, 1].any()


def test_supports_of_different_spacing_go_together(descriptor):
    coarse = patient(2, (20, 16, 18))
    segmenter = quiet_fit(PrototypeSegmenter(descriptor), patient(0), coarse)
    found, _ = segmenter.predict(patient(1)[0])
    assert found.array.any()


def test_a_structure_thinner_than_a_window_is_named_and_still_found(descriptor):
    volume, labels = a_block()
    labels.array[:] = 0
    labels.array[5:15, 9, 9] = 1
    volume.array[:] = 40
    volume.array[5:15, 9, 9] = 1000
    segmenter = PrototypeSegmenter(descriptor)
    with pytest.warns(
        InputWarning, match="Block: thinner than a window in every support; the class prototype alone"
    ):
        segmenter.fit(SupportSet([(volume, labels)]))
    assert segmenter.alone_ == ["Block"]
    assert segmenter.predict(volume)[0].mask("Block").any()


def test_a_support_smaller_than_a_window_is_named_and_used(descriptor):
    volume, labels = a_block()
    segmenter = PrototypeSegmenter(descriptor, window=(30, 2, 2))
    with pytest.warns(InputWarning, match=r"smaller \(20 × 20 × 20 voxels\) than a window \(30 × 2 × 2\)"):
        segmenter.fit(SupportSet([(volume, labels)]))
    assert segmenter.predict(volume)[0].same_grid(volume)


def test_a_structure_that_fills_the_body_is_refused(descriptor):
    volume, labels = a_block()
    labels.array[:] = 1
    with pytest.raises(
        InputError, match="Block: fills the whole body in every support, so that there is no backgr"
    ):
        quiet_fit(PrototypeSegmenter(descriptor), (volume, labels))


def test_a_structure_that_fills_all_windows_but_not_the_body_is_told_from_the_rest(descriptor):
    volume, labels = a_block()
    labels.array[:] = 1
    labels.array[:, :, 0] = 0
    segmenter = quiet_fit(PrototypeSegmenter(descriptor, background_window=(20, 20, 20)), (volume, labels))
    assert segmenter.prototypes_.background.any()


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"window": (2, 2)}, r"window \[2, 2\]: three numbers of voxels from 1 up"),
        ({"background_window": (0, 2, 2)}, r"window \[0, 2, 2\]: three numbers"),
        ({"threshold": 0.2}, "threshold 0.2"),
        ({"beta": 1.0}, "beta 1.0"),
        ({"spatial_weight": float("nan")}, "spatial weight nan"),
    ],
)
def test_settings_out_of_range_are_refused(descriptor, settings, said):
    with pytest.raises(InputError, match=said):
        PrototypeSegmenter(descriptor, **settings)


def test_a_descriptor_that_is_not_dense_is_refused():
    with pytest.raises(InputError, match="gvdiff: prototypes need an alpnet or dense model"):
        make_segmenter("prototype", "gvdiff", patient()[0])


def test_overlapping_structures_are_each_told_from_their_own_background(descriptor):
    volume, labels = a_block()
    inner = np.zeros(volume.array.shape, bool)
    inner[8:12, 8:12, 8:12] = True
    overlapping = LabelMap.from_masks(
        volume,
        {"Outer": labels.array > 0, "Inner": inner},
        [Segment(1, "Outer"), Segment(2, "Inner")],
        "both",
    )
    found, _ = quiet_fit(PrototypeSegmenter(descriptor), (volume, overlapping)).predict(volume)
    assert (found.mask("Outer") & found.mask("Inner")).any()


def test_prototypes_out_of_reach_change_nothing_that_is_said(descriptor, monkeypatch):
    from SSLFewShotLib.segmentation import support_prototypes

    segmenter = quiet_fit(PrototypeSegmenter(descriptor), patient(0))
    scan = descriptor.prepare(patient(1)[0])
    field = descriptor.field(scan, lambda *said: None)
    near = probabilities(scan, field, segmenter.prototypes_, segmenter.settings)
    monkeypatch.setattr(
        support_prototypes,
        "_within_reach",
        lambda places, others, penalty: torch.ones(len(others), dtype=torch.bool),
    )
    every = probabilities(scan, field, segmenter.prototypes_, segmenter.settings)
    assert np.abs(near - every).max() < 0.02


def test_a_place_counts_by_its_squared_distance_beside_the_cosine():
    ours, theirs = torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0, 0.0]])
    here, there = torch.tensor([[0.1, 0.2, 0.3]]), torch.tensor([[0.4, 0.2, 0.1]])
    said = _with_places(ours, here, 10.0, other=True) @ _with_places(theirs, there, 10.0).T
    assert float(said) == pytest.approx(0.6 - 10 * (0.3**2 + 0.2**2), abs=1e-5)


def test_the_probabilities_of_a_voxel_add_up_to_at_most_one_and_are_nothing_outside_the_body(descriptor):
    segmenter = quiet_fit(PrototypeSegmenter(descriptor), patient(0))
    scan = descriptor.prepare(patient(1)[0])
    found = probabilities(
        scan, descriptor.field(scan, lambda *said: None), segmenter.prototypes_, segmenter.settings
    )
    assert found.sum(axis=0).max() <= 1 + 1e-5 and not found[:, ~scan.body.numpy()].any()


def test_the_labels_stay_with_the_anatomy_when_the_scan_is_stored_the_other_way_round(descriptor):
    segmenter = quiet_fit(PrototypeSegmenter(descriptor), patient(0))
    volume = patient(1)[0]
    matrix = volume.ijkToLps @ np.array([[-1, 0, 0, SIZE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    flipped = Volume(np.ascontiguousarray(volume.array[:, :, ::-1]), matrix, "flipped", "CT")
    plain, turned = (segmenter.predict(scan)[0].array for scan in (volume, flipped))
    assert (plain != turned[:, :, ::-1]).mean() < 0.002


def test_predicting_can_be_cancelled(descriptor):
    segmenter = quiet_fit(PrototypeSegmenter(descriptor), patient(0))

    def stop(fraction, message):
        if message.startswith("comparing"):
            raise Cancelled

    with pytest.raises(Cancelled):
        segmenter.predict(patient(1)[0], stop)


def test_progress_rises_to_its_end(descriptor):
    reports = []
    segmenter = quiet_fit(PrototypeSegmenter(descriptor), patient(0))
    segmenter.predict(patient(1)[0], lambda *report: reports.append(report))
    fractions = [fraction for fraction, _ in reports]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0


def test_a_report_says_all_settings(descriptor):
    said = json.loads(json.dumps(PrototypeSegmenter(descriptor, window=(2, 4, 4), beta=0.6).provenance()))
    assert said["method"] == "prototype" and said["descriptor"]["name"] == "small"
    assert said["settings"]["window"] == [2, 4, 4] and said["settings"]["beta"] == 0.6


def test_an_evaluation_makes_a_supports_prototypes_once_and_segments_as_the_method_alone_does(
    descriptor, monkeypatch
):
    calls = []
    computed = descriptor._computed
    monkeypatch.setattr(descriptor, "_computed", lambda *scan: calls.append(1) or computed(*scan))
    first, second, query = patient(0), patient(2), patient(1)[0]
    contender = PrototypeContender(descriptor, "small", [], {"spatial_weight": 2.0})
    sets = {("a",): SupportSet([first]), ("b",): SupportSet([second]), ("a", "b"): SupportSet([first, second])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        contender.fit(sets)
    assert len(calls) == 2
    results = {supports: contender.predict(supports, query) for supports in sets}
    assert len(calls) == 3 and all(measured["seconds"] > 0 for _, measured in results.values())
    alone = quiet_fit(PrototypeSegmenter(descriptor, spatial_weight=2.0), first, second).predict(query)[0]
    assert np.array_equal(results["a", "b"][0].array, alone.array)
    assert contender.facts()["settings"]["spatial_weight"] == 2.0


# An ALPNET model, from its training to the command


@pytest.fixture(scope="module")
def model(three_small_scans, tmp_path_factory):
    """After very few iterations; not to be changed."""
    folder = tmp_path_factory.mktemp("alpnet") / "tiny-alpnet"
    small = ("--features", 4, "--view-size", 16, 16, 16, "--supervoxel-mm3", 1e6, "--extent-mm", 1000)
    outcome = sslfewshot(
        "pretrain", three_small_scans, "--method", "alpnet", "--output", folder, "--iterations", 2, *small
    )
    assert outcome.code == 0, outcome.err
    return folder


def test_the_command_segments_by_prototypes(model, support, target, tmp_path):
    arguments = ("--output", tmp_path, "--method", "prototype", "--model", model, "--window", 2, 2, 1)
    outcome = sslfewshot("segment", target, *support, *arguments)
    assert outcome.code == 0, outcome.err
    said = json.loads((tmp_path / "report.json").read_text())["segmenter"]
    assert said["method"] == "prototype" and said["descriptor"]["method"] == "alpnet"
    assert said["settings"]["window"] == [1, 2, 2]


def test_prototypes_are_the_method_of_an_alpnet_model_and_other_methods_can_use_it_too(model):
    volume = patient()[0]
    assert isinstance(make_segmenter("auto", str(model), volume), PrototypeSegmenter)
    assert isinstance(make_segmenter("knn", str(model), volume), KnnSegmenter)


def test_settings_that_prototypes_alone_have_choose_them(model):
    made = make_segmenter("auto", str(model), patient()[0], window=(1, 2, 2), seed=3)
    assert isinstance(made, PrototypeSegmenter) and made.settings.window == (1, 2, 2)
    assert isinstance(make_segmenter("auto", str(model), patient()[0], k=5), KnnSegmenter)


def test_a_model_keeps_the_size_of_the_views_that_it_was_trained_on(model):
    assert make_segmenter("prototype", str(model), patient()[0]).descriptor.tile == (16, 16, 16)


@pytest.mark.slow
def test_the_command_evaluates_prototypes(model, tmp_path):
    write_cohort(tmp_path / "scans", 2, labelled=2, size=(20, 16, 18))
    outcome = sslfewshot(
        "evaluate", tmp_path / "scans", "--supports", "phantom_000", "--methods", "prototype", "--models", model,
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "prototype" in (tmp_path / "out" / "results.csv").read_text()


def test_the_worker_segments_by_prototypes(model, scans, target, tmp_path):
    support = {"image": str(scans / "pt_0_ct.nrrd"), "labels": str(scans / "pt_0.seg.nrrd")}
    with WorkerProcess(tmp_path / "temporary", WORKER) as worker:
        answer = worker.ask(
            "segment", supports=[support], targets=[str(target)], output=str(tmp_path / "out"), method="prototype",
            model=str(model), settings={"window": [1, 2, 2], "beta": 0.55}, device="cpu",
        )  # fmt: skip
    said = answer["result"]["segmenter"]
    assert said["method"] == "prototype" and said["settings"]["window"] == [1, 2, 2]
    assert said["settings"]["beta"] == 0.55


@pytest.mark.slow
@pytest.mark.realdata
def test_the_bundled_model_finds_both_parts_of_a_hippocampus_from_one_marked_scan(real_data):
    cases = find_cases(real_data / "hippocampus-mr" / "labelled")
    support, query = (read_case(case) for case in select_cases(cases, ["003", "138"]))
    segmenter = make_segmenter("auto", "alpnet-hippocampus-mr", support[0])
    found, _ = segmenter.fit(SupportSet([support])).predict(query[0])
    assert isinstance(segmenter, PrototypeSegmenter)
    assert np.mean([dice(found, query[1], segment.name) for segment in query[1].segments]) > 0.5
