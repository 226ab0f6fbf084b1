"""The scans of a training: those that cannot be read are left out, those that fit into memory are kept."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import toy_task
from SSLFewShotLib.errors import Cancelled, InputError, InputWarning
from SSLFewShotLib.imaging import Volume
from SSLFewShotLib.imaging.files import write_volume
from SSLFewShotLib.pretext.pool import ScanPool
from toy_task import BrighterHalf, make_trainer, same, stop_in, weights

# Sums come out the same to the last bit in every process.
pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> list[Path]:
    return toy_task.write_scans(tmp_path_factory.mktemp("scans"))


def unreadable(folder: Path) -> Path:
    path = folder / "broken.nrrd"
    path.write_bytes(b"NRRD0004\ntype: short\n")
    return path


def test_a_scan_that_cannot_be_read_is_named_once_and_left_out(scans, tmp_path):
    broken = unreadable(tmp_path)
    trainer = make_trainer(tmp_path / "work", [broken, *scans[:2]], iterations=20, refresh_every=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.run()
    named = [str(w.message) for w in caught if issubclass(w.category, InputWarning)]
    assert len(named) == 1 and named[0].startswith("skipped: ") and str(broken) in named[0]
    assert list(trainer.pool.skipped) == [broken]


def test_a_skipped_scan_does_not_change_what_a_resumed_training_comes_to(scans, tmp_path):
    paths = [scans[0], unreadable(tmp_path), *scans[1:]]
    results = []
    with pytest.warns(InputWarning):
        for folder, stop in (("whole", None), ("parts", 17)):
            trainer = make_trainer(tmp_path / folder, paths, iterations=30)
            if stop:
                stop_in(trainer, stop, Cancelled())
                with pytest.raises(Cancelled):
                    trainer.run()
                trainer = make_trainer(tmp_path / folder, paths, iterations=30)
            trainer.run(resume=bool(stop))
            results.append(weights(trainer))
    assert same(*results)


def test_when_no_scan_can_be_read_the_reasons_are_given(tmp_path):
    trainer = make_trainer(tmp_path / "work", [unreadable(tmp_path)], iterations=5)
    with (
        pytest.warns(InputWarning),
        pytest.raises(InputError, match=r"none of the 1 scans can be read: .*broken\.nrrd"),
    ):
        trainer.run()


def test_a_pool_keeps_no_more_scans_than_its_memory_allows_and_draws_the_same(scans):
    preparation = BrighterHalf.preparation
    large = ScanPool(scans, preparation)
    one = large.get(scans[0]).nbytes
    small = ScanPool(scans, preparation, memory_limit=int(2.5 * one))
    for seed in range(6):
        names = [
            [scan.name for scan in pool.draw(3, np.random.default_rng(seed)).scans] for pool in (large, small)
        ]
        assert names[0] == names[1] and len(set(names[0])) == 3
        assert sum(scan.nbytes for scan in small._kept.values()) <= 2.5 * one
    assert len(large._kept) == len(scans)


def test_a_pool_smaller_than_asked_for_gives_all_it_has(scans):
    assert len(ScanPool(scans[:2], BrighterHalf.preparation).draw(8, np.random.default_rng(0))) == 2


def test_a_scan_of_vectors_is_left_out_like_one_that_cannot_be_read(scans, tmp_path):
    field = tmp_path / "field.nrrd"
    write_volume(Volume.from_spacing(np.ones((4, 4, 4, 3), np.float32)), field)
    pool = ScanPool([field, scans[0]], BrighterHalf.preparation)
    with pytest.warns(InputWarning, match=r"field\.nrrd"):
        assert [scan.name for scan in pool.draw(2, np.random.default_rng(0)).scans] == ["scan_0.nrrd"]
