"""The best speed: a network trained on the supports, and on the labels that an alignment gives to other scans."""

import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import sslfewshot
from SSLFewShotLib.descriptors.loading import load_descriptor
from SSLFewShotLib.errors import Cancelled, InputError, InputWarning
from SSLFewShotLib.imaging import LabelMap, SupportSet, Volume
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity
from SSLFewShotLib.sampling.preparation import Preparation
from SSLFewShotLib.segmentation import network_share
from SSLFewShotLib.segmentation.aligned import AlignedSegmenter
from SSLFewShotLib.segmentation.job import SegmentationJob
from SSLFewShotLib.segmentation.pseudo_labels import FEWEST, MOST, chosen_scans, pseudo_labelled
from SSLFewShotLib.segmentation.tuning_folder import tunes
from SSLFewShotLib.worker.memory import needed_for
from tuning_samples import blocks, dice, support, write_blocks, write_small_model

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread", "own_store"),
    pytest.mark.filterwarnings("ignore:.*hardly resembles:SSLFewShotLib.errors.InputWarning"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """b_0 to b_5 with labels, and the small model."""
    folder = tmp_path_factory.mktemp("best")
    write_blocks(folder / "scans", 6, folder / "labels")
    write_small_model(folder / "small-ct")
    return folder


def best(files, **settings) -> AlignedSegmenter:
    descriptor = load_descriptor(str(files / "small-ct"), blocks()[0])
    return AlignedSegmenter(descriptor, **{"trained": 0.5, "training_steps": 3, **settings})


def test_of_many_scans_some_are_learned_from_evenly_and_of_too_few_none(files, tmp_path):
    assert chosen_scans([files / "scans"]) == sorted((files / "scans").iterdir())
    assert [path.name for path in chosen_scans([files / "scans"], most=3)] == [
        "b_0_ct.nrrd",
        "b_2_ct.nrrd",
        "b_5_ct.nrrd",
    ]
    few = sorted((files / "scans").iterdir())[: FEWEST - 1]
    assert chosen_scans(few) == [] and chosen_scans([]) == [] and MOST > FEWEST


def test_the_scans_whose_labels_are_least_sure_are_not_learned_from(files):
    preparation = Preparation(Extent("mm", 300.0), Intensity("window", -500.0, 1000.0), 1 / 30)
    given = []

    def predict(volume: Volume, _progress):
        number = int(volume.name[2])
        given.append(number)
        _, labels = blocks(number)
        # Scan 3 is the one that nobody is sure of.
        confidence = np.full(labels.array.shape, 0.5 if number == 3 else 0.9, np.float32)
        return labels, volume.with_array(confidence)

    paths = sorted((files / "scans").iterdir())[:4]
    scans = pseudo_labelled(paths, predict, support(0).segments, preparation)
    assert given == [0, 1, 2, 3] and len(scans) == 3
    truth = [blocks(number)[1].mask("RightBlock").sum() for number in (0, 1, 2)]
    assert [len(scan.masks[0].inside()) for scan in scans] == pytest.approx(truth, rel=0.2)


def test_labels_that_overlap_are_learned_from_too(files):
    volume, labels = blocks(0)
    one, other = labels.mask("RightBlock"), labels.mask("LeftBlock")
    both = LabelMap.from_masks(volume, {"RightBlock": one, "Both": one | other})
    assert both.overlapping
    segments = SupportSet([(volume, both)]).segments
    preparation = Preparation(Extent("mm", 300.0), Intensity("window", -500.0, 1000.0), 1 / 30)
    sure = volume.with_array(np.ones(one.shape, np.float32))
    paths = sorted((files / "scans").iterdir())[:1]
    (scan,) = pseudo_labelled(paths, lambda *_: (both, sure), segments, preparation)
    assert len(scan.masks[1].inside()) > len(scan.masks[0].inside()) > 0


def test_a_scan_that_cannot_be_read_is_named_and_left_out(files, tmp_path):
    broken = tmp_path / "broken.nrrd"
    broken.write_bytes(b"nothing")
    preparation = Preparation(Extent("mm", 300.0), Intensity("window", -500.0, 1000.0), 1 / 30)
    with pytest.warns(InputWarning, match="not learned from: .*broken.nrrd"):
        scans = pseudo_labelled([broken], lambda *_: None, support(0).segments, preparation)
    assert scans == []


def test_what_the_network_says_is_joined_with_what_was_carried(files):
    """A network that sees nothing anywhere takes away what its share is, of each segment."""
    fitted = best(files, trained=0.95).fit(support(0))
    volume, truth = blocks(0)
    head = fitted.network_.network.network.head
    head.weight.data.zero_()
    head.bias.data[:] = -20.0
    fitted.network_.shares = np.float32([0.0, 0.95])
    found, confidence = fitted.predict(volume)
    assert dice(found, truth, "RightBlock") > 0.9 and not found.mask("LeftBlock").any()
    fitted.network_.shares = np.float32([0.3, 0.3])
    both, less = fitted.predict(volume)
    inside = both.mask("RightBlock")
    assert dice(both, truth, "RightBlock") > 0.7 and both.mask("LeftBlock").any()
    assert less.array[inside].mean() < confidence.array[inside].mean()


def test_a_segment_that_the_network_has_not_learned_stays_with_the_alignment(files, monkeypatch):
    measured = np.array([0.8, np.nan], np.float32)
    monkeypatch.setattr(network_share, "fine_tuned", lambda *_, **__: SimpleNamespace(network=None, dice=measured))
    alone = best(files, trained=0.5).fit(support(0))
    assert alone.network_.shares == pytest.approx([0.25 * 0.8**3, 0.0])
    with_others = best(files, trained=0.5, unlabelled=[str(files / "scans")]).fit(support(0))
    assert with_others.network_.shares == pytest.approx([0.5 * 0.8**3, 0.0])


def test_far_from_what_was_carried_the_network_has_no_say(files):
    fitted = best(files).fit(support(0))
    head = fitted.network_.network.network.head
    head.weight.data.zero_()
    head.bias.data[:] = 20.0
    scan = fitted.descriptor.prepare(blocks(0)[0])
    near = np.array([[60.0, 60, 60], [110, 110, 110]])
    seen = fitted.network_.seen(scan, near).probabilities
    assert seen[:, 7:10, 7:10, 7:10] == pytest.approx(0.5)
    assert not seen[:, :5].any() and not seen[..., 13:].any()


def test_the_same_seed_gives_the_same_network_and_the_supports_stay_as_they_were(files):
    first, again = (best(files).fit(support(0)) for _ in range(2))
    for one, other in zip(
        first.network_.network.network.parameters(), again.network_.network.network.parameters(), strict=True
    ):
        assert np.array_equal(one.detach().numpy(), other.detach().numpy())
    descriptor = load_descriptor(str(files / "small-ct"), blocks()[0])
    for one, other in zip(first.descriptor.network.parameters(), descriptor.network.parameters(), strict=True):
        assert np.array_equal(one.detach().numpy(), other.detach().numpy())


def test_the_report_says_what_was_learned_from(files):
    fitted = best(files, unlabelled=[str(files / "scans")]).fit(support(0))
    settings = fitted.provenance()["settings"]
    assert settings["trained"] == 0.5 and settings["training_steps"] == 3
    assert settings["unlabelled"] == [f"b_{seed}_ct.nrrd" for seed in range(6)]
    alone = best(files).fit(support(0)).provenance()["settings"]
    assert alone["unlabelled"] == []
    assert "training_steps" not in best(files, trained=0.0).provenance()["settings"]


def test_a_share_out_of_range_is_refused(files):
    with pytest.raises(InputError, match="trained 1, 3 steps: a share from 0 up and below 1"):
        best(files, trained=1)
    with pytest.raises(InputError, match="unlabelled scans are learned from at the best speed"):
        best(files, trained=0, unlabelled=["scans"])


def test_a_job_that_trains_is_known_before():
    assert tunes("auto", {"speed": "best"}) and tunes("aligned", {"trained": 0.2})
    assert not tunes("knn", {"speed": "best"}) and not tunes("aligned", {"speed": "fast"})


def test_the_memory_that_training_needs_is_told(files):
    marked = (files / "scans" / "b_0_ct.nrrd", files / "labels" / "b_0.seg.nrrd")
    needed = {}
    for speed in ("balanced", "best"):
        model, settings = str(files / "small-ct"), {"speed": speed}
        job = SegmentationJob([files / "scans"], [marked], files / "out", model=model, settings=settings)
        needed[speed] = needed_for(job)
    assert needed["balanced"] < needed["best"] < needed["balanced"] + 2e9


def test_the_command_learns_from_the_scans_that_it_is_given(files, tmp_path, monkeypatch):
    monkeypatch.setattr(AlignedSegmenter, "speeds", {"best": {"trained": 0.5, "training_steps": 2}})
    scans = [files / "scans" / f"b_{seed}_ct.nrrd" for seed in range(1, 6)]
    given = ("segment", *scans, "--support", files / "scans" / "b_0_ct.nrrd", files / "labels" / "b_0.seg.nrrd")
    how = ("--model", files / "small-ct", "--method", "aligned", "--speed", "best", "--device", "cpu", "--json")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        outcome = sslfewshot(*given, *how, "--output", tmp_path / "all")
        assert outcome.code == 0, outcome.err
        alone = sslfewshot(
            *given[:2], *given[6:], *how, "--output", tmp_path / "one", "--unlabelled", files / "scans"
        )
    assert outcome.result["segmenter"]["settings"]["unlabelled"] == [path.name for path in scans]
    assert len(outcome.result["targets"]) == 5
    assert alone.code == 0 and len(alone.result["segmenter"]["settings"]["unlabelled"]) == 6
    assert not (tmp_path / "all" / "finetune.training").exists()
    report = json.loads((tmp_path / "all" / "report.json").read_text(encoding="utf-8"))
    assert report["segmenter"]["settings"]["trained"] == 0.5


def test_a_cancel_while_labels_are_carried_ends_the_job(files):
    def stop(_fraction, message):
        if message.startswith("carrying labels to b_2"):
            raise Cancelled

    with pytest.raises(Cancelled):
        best(files, unlabelled=[str(files / "scans")]).fit(support(0), stop)


def test_segments_that_overlap_are_joined_too(files):
    volume, labels = blocks(0)
    masks = {name: labels.mask(name) for name in ("RightBlock", "LeftBlock")}
    masks["Both"] = masks["RightBlock"] | masks["LeftBlock"]
    both = LabelMap.from_masks(volume, masks)
    fitted = best(files, trained=0.3, largest_component=False).fit(SupportSet([(volume, both)]))
    found, _ = fitted.predict(volume)
    assert found.overlapping and dice(found, both, "Both") > 0.7
