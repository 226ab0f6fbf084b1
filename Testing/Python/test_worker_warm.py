"""What stays loaded in the worker: known by what it holds, bounded, and never a change of a result."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from SSLFewShotLib.errors import Cancelled, InputError, InputWarning
from SSLFewShotLib.imaging import LabelMap
from SSLFewShotLib.imaging.files import read_labels, read_volume, write_labels, write_volume
from SSLFewShotLib.segmentation import job as job_module
from SSLFewShotLib.segmentation import support_files
from SSLFewShotLib.segmentation.job import SegmentationJob, run
from SSLFewShotLib.worker.warm import Warm, WarmPreparation
from warm_jobs import a_job, pair
from worker_process import WORKER, WorkerProcess


def ran(warm: Warm, job: SegmentationJob, content: str | None = None) -> tuple[bool, bool]:
    """Run a job; returns whether support and model were warm."""
    preparation = WarmPreparation(warm, [], content)
    run(job, prepare=preparation)
    return preparation.support, preparation.model


def test_a_second_scan_costs_neither_reading_nor_fitting(scans, tmp_path, monkeypatch):
    warm = Warm()
    kept, known = warm.read_support([pair(scans)], None, [])
    assert not known
    assert ran(warm, a_job(scans, tmp_path / "1", 1), kept.content) == (True, False)
    read = []
    plain = job_module.read_volume
    for module in (job_module, support_files):
        monkeypatch.setattr(
            module, "read_volume", lambda path, *rest: read.append(path.name) or plain(path, *rest)
        )
    monkeypatch.setattr(job_module, "make_segmenter", None)
    assert ran(warm, a_job(scans, tmp_path / "2", 2), kept.content) == (True, True)
    assert read == ["pt_2_ct.nrrd"]


@pytest.mark.parametrize(
    "changes", [{"method": "box"}, {"method": "knn", "model": "gvdiff", "settings": {"k": 5}}]
)
def test_a_warm_result_is_the_same_byte_for_byte(scans, tmp_path, changes):
    changes = {**changes, "format": "nii.gz"}
    if changes["method"] == "knn":
        changes["settings"] = {**changes["settings"], "spacing": 16.0}
    cold = run(a_job(scans, tmp_path / "cold", 2, **changes))
    warm = Warm()
    assert ran(warm, a_job(scans, tmp_path / "first", 1, **changes)) == (False, False)
    assert ran(warm, a_job(scans, tmp_path / "second", 2, **changes)) == (True, True)
    for target in cold["targets"]:
        for key in ("segmentation", "confidence"):
            written = (tmp_path / "second" / target[key]).read_bytes()
            assert written == (tmp_path / "cold" / target[key]).read_bytes()


def test_a_support_is_known_by_what_it_holds_whatever_it_is_called(scans, tmp_path):
    warm = Warm()
    assert ran(warm, a_job(scans, tmp_path / "out")) == (False, False)
    image, labels = tmp_path / "another name.nrrd", tmp_path / "and its labels.seg.nrrd"
    shutil.copy(pair(scans)[0], image)
    shutil.copy(pair(scans)[1], labels)
    assert ran(warm, a_job(scans, tmp_path / "out", supports=[(image, labels)])) == (True, True)
    volume = read_volume(image)
    volume.array[0, 0, 0] += 1
    write_volume(volume, image, overwrite=True)
    assert ran(warm, a_job(scans, tmp_path / "out", supports=[(image, labels)])) == (False, False)


def test_one_voxel_of_the_labels_a_name_or_a_chosen_segment_makes_another_support(scans, tmp_path):
    warm = Warm()
    image, labels = pair(scans)
    contents = {warm.read_support([(image, labels)], None, [])[0].content}
    marked = read_labels(labels)
    changed = marked.array.copy()
    changed[tuple(np.argwhere(changed == marked.segments[0].value)[0])] = 0
    renamed = [s if n else type(s)(s.value, "Another", s.colour) for n, s in enumerate(marked.segments)]
    for number, other in enumerate(
        (
            LabelMap(changed, marked.ijkToLps, segments=marked.segments, layers=marked.layers),
            LabelMap(marked.array, marked.ijkToLps, segments=renamed, layers=marked.layers),
        )
    ):
        path = tmp_path / f"{number}.seg.nrrd"
        write_labels(other, path)
        contents.add(warm.read_support([(image, path)], None, [])[0].content)
    contents.add(warm.read_support([(image, labels)], [marked.segments[0].name], [])[0].content)
    assert len(contents) == 4


def test_other_settings_are_another_segmenter_on_the_same_support(scans, tmp_path):
    warm = Warm()
    coarse = {"method": "knn", "model": "gvdiff", "settings": {"spacing": 30.0}}
    assert ran(warm, a_job(scans, tmp_path / "out", **coarse)) == (False, False)
    fewer = {**coarse, "settings": {"spacing": 30.0, "k": 3}}
    assert ran(warm, a_job(scans, tmp_path / "out", **fewer)) == (True, False)
    assert ran(warm, a_job(scans, tmp_path / "out")) == (True, False)
    assert ran(warm, a_job(scans, tmp_path / "out", **coarse)) == (True, True)


def test_so_many_are_kept_and_the_one_not_used_for_longest_goes(scans, tmp_path):
    warm = Warm(supports=2, segmenters=2)
    jobs = [a_job(scans, tmp_path / "out", supports=[pair(scans, seed)]) for seed in range(3)]
    assert [ran(warm, job)[0] for job in jobs] == [False, False, False]
    assert ran(warm, jobs[1]) == (True, True)
    assert ran(warm, jobs[0]) == (False, False)  # and 2 makes room
    assert ran(warm, jobs[1]) == (True, True)
    assert ran(warm, jobs[2]) == (False, False)


def test_a_support_that_made_room_is_read_again_by_itself_unless_it_has_changed(scans, tmp_path):
    image = Path(shutil.copy(pair(scans)[0], tmp_path / "ct.nrrd"))
    warm = Warm(supports=1)
    kept, _ = warm.read_support([(image, pair(scans)[1])], None, [])
    warm.read_support([pair(scans, 1)], None, [])
    assert ran(warm, a_job(scans, tmp_path / "out"), kept.content) == (False, False)
    warm.clear()
    volume = read_volume(image)
    volume.array[0, 0, 0] += 1
    write_volume(volume, image, overwrite=True)
    with pytest.raises(InputError, match=r"ct\.nrrd: the files of the support have changed .* set it again"):
        ran(warm, a_job(scans, tmp_path / "out"), kept.content)
    image.unlink()
    with pytest.raises(InputError, match=r"ct\.nrrd"):
        ran(warm, a_job(scans, tmp_path / "out"), kept.content)


def test_what_is_kept_makes_room_where_memory_is_short_but_not_the_support_at_hand(scans, tmp_path, monkeypatch):
    warm = Warm()
    mine, other = (warm.read_support([pair(scans, seed)], None, [])[0].content for seed in (0, 1))
    asked = []

    def short(job, supports=True, make_room=None):
        asked.append(supports)
        make_room()

    monkeypatch.setattr("SSLFewShotLib.worker.memory.check", short)
    assert ran(warm, a_job(scans, tmp_path / "out"), mine) == (True, False)
    assert warm.holds(mine) and not warm.holds(other)
    assert ran(warm, a_job(scans, tmp_path / "out"), mine) == (True, True)
    assert ran(warm, a_job(scans, tmp_path / "out"), other) == (False, False)
    assert asked == [False, False, True]


def test_a_support_that_was_never_set_is_refused_with_what_to_do():
    with pytest.raises(InputError, match=r"support 'abc…': this worker does not have it; set the support first"):
        Warm().source("abc")


@pytest.mark.slow
def test_a_model_that_was_replaced_under_its_name_is_not_taken_for_the_old_one(scans, tmp_path):
    from SSLFewShotLib.models import ModelStore

    model = shutil.copytree(
        ModelStore().bundled_folder / "heatmap-head-neck-ct", tmp_path / "heatmap-head-neck-ct"
    )
    few = {"spacing": 30.0, "per_segment": 1, "background": 0}
    job = a_job(scans, tmp_path / "out", method="knn", model=str(model), settings=few)
    warm = Warm()

    def prepared() -> tuple[bool, bool]:
        preparation = WarmPreparation(warm, [])
        preparation(job, torch.device("cpu"))
        return preparation.support, preparation.model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        assert prepared() == (False, False)
        assert prepared() == (True, True)
        card = model / "card.json"
        text = card.read_text(encoding="utf-8")
        assert '"licence": "' in text
        card.write_text(text.replace('"licence": "', '"licence": "Other, ', 1), encoding="utf-8")
        assert prepared() == (True, False)


def test_what_was_warned_of_is_warned_of_each_time(scans, tmp_path):
    labels = read_labels(pair(scans)[1])
    moved = labels.ijkToLps.copy()
    moved[:3, 3] += 3.0
    shifted = LabelMap(labels.array, moved, segments=labels.segments, layers=labels.layers)
    write_labels(shifted, tmp_path / "shifted.seg.nrrd")
    job = a_job(scans, tmp_path / "out", supports=[(pair(scans)[0], tmp_path / "shifted.seg.nrrd")])
    with WorkerProcess(tmp_path / "temporary", WORKER) as worker:
        supports = [{"image": str(image), "labels": str(labels)} for image, labels in job.supports]
        set_ = worker.ask("support/set", supports=supports)["result"]
        assert "resampled" in set_["warnings"][0] and set_["cases"] == 1
        for _ in range(2):
            report = worker.ask(
                "segment",
                support=set_["support"],
                targets=[str(job.targets[0])],
                output=str(job.output),
                method="box",
                overwrite=True,
            )["result"]
            assert report["warnings"] == set_["warnings"]
        assert report["warm"] == {"support": True, "model": True}


def test_a_cancelled_fit_is_not_kept(scans, tmp_path):
    warm = Warm()
    job = a_job(scans, tmp_path / "out")
    for stop in range(1, 12):
        calls = iter(range(stop))

        def cancel(fraction, message, calls=calls):
            if next(calls, None) is None:
                raise Cancelled

        with pytest.raises(Cancelled):
            run(job, cancel, WarmPreparation(warm, []))
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    ran(warm, job)
    assert ran(warm, job) == (True, True)
