"""What a worker computes is what the command would: segmenting, comparing, evaluating."""

import shutil
from pathlib import Path

from SSLFewShotLib.imaging.files import read_labels
from SSLFewShotLib.segmentation.job import run
from SSLFewShotLib.worker import protocol
from warm_jobs import a_job, pair
from worker_process import WORKER, WorkerProcess


def test_the_worker_segments_as_the_command_does(scans, tmp_path):
    target = scans / "pt_1_ct.nrrd"
    name = "Ein \"Fall\", 'ü' 患者.nrrd"
    shutil.copy(target, tmp_path / name)
    job = a_job(scans, tmp_path / "plain", targets=[tmp_path / name], format="nii.gz")
    report = run(job)
    image, labels = (str(path) for path in pair(scans))
    with WorkerProcess(tmp_path / "temporary", WORKER) as worker:
        asked = {
            "supports": [{"image": image, "labels": labels}],
            "targets": [str(tmp_path / name)],
            "output": str(tmp_path / "worker"),
            "method": "box",
        }
        answer = worker.ask("segment", **asked)["result"]
        assert answer["warm"] == {"support": False, "model": False}
        assert answer["segmenter"] == report["segmenter"] and answer["segments"] == report["segments"]
        for key in ("segmentation", "confidence"):
            written = report["targets"][0][key]
            assert (tmp_path / "worker" / written).read_bytes() == (tmp_path / "plain" / written).read_bytes()

        def code(**changes):
            return worker.ask("segment", **{**asked, **changes})["error"]["code"]

        assert code() == protocol.WRONG_INPUT, "the output exists"
        assert code(overwrite=True, targets=[str(tmp_path / "gone.nrrd")]) == protocol.WRONG_INPUT
        assert code(overwrite=True, supports=None) == protocol.INVALID_PARAMS
        assert code(overwrite=True, support="abc") == protocol.INVALID_PARAMS
        assert code(overwrite=True, supports=None, support="abc") == protocol.WRONG_INPUT
        assert code(overwrite=True, settings={"k": "many"}) == protocol.INVALID_PARAMS
        assert code(overwrite=True, settings={"magic": 1}) == protocol.INVALID_PARAMS
        assert code(overwrite=True, settings={"k": 3}) == protocol.WRONG_INPUT, "the box has no such setting"
        assert code(overwrite=True, device="warp") == protocol.WRONG_INPUT
        assert code(overwrite=True, method="knn", model="nothing") == protocol.WRONG_INPUT
        warm = worker.ask("segment", **{**asked, "overwrite": True})["result"]["warm"]
        assert warm == {"support": True, "model": True}
        log = worker.log + worker.errors.read_text()
        assert "患者" not in log and "Fall" not in log and "pt_0" not in log


def test_a_segmentation_is_compared_with_its_reference_and_models_are_found_for_a_scan(scans, tmp_path):
    image, labels = (str(path) for path in pair(scans))
    with WorkerProcess(tmp_path / "temporary", WORKER) as worker:
        same = worker.ask("compare", reference=labels, segmentation=labels)["result"]["segments"]
        assert {row["dice"] for row in same} == {1.0} and {row["hd95"] for row in same} == {0.0}
        assert [row["name"] for row in same] == [s.name for s in read_labels(labels).segments]
        other = worker.ask("compare", reference=labels, segmentation=str(pair(scans, 1)[1]), image=image)["result"]
        assert all(0 <= row["dice"] < 1 for row in other["segments"])
        assert all(set(row) == {"name", "dice", "nsd", "hd95"} for row in other["segments"])
        listed = worker.ask("models/list")["result"]
        assert {"heatmap-head-neck-ct"} <= {card["name"] for card in listed} and listed[0]["bundled"]
        shown = worker.ask("models/show", name="heatmap-head-neck-ct")["result"]
        assert shown in listed
        assert worker.ask("models/show", name="none")["error"]["code"] == protocol.WRONG_INPUT
        assert isinstance(worker.ask("models/fitting", image=image)["result"], list)
        archive = str(tmp_path / "a model.zip")
        assert worker.ask("models/export", name=shown["name"], archive=archive)["result"] == {"archive": archive}
        refused = worker.ask("models/import", archive=archive)
        assert "bundled model's" in refused["error"]["message"]
        assert refused["error"]["data"] == {
            "type": "NameTakenError",
            "free": "heatmap-head-neck-ct-2",
            "replaceable": False,
        }
        assert "cannot be removed" in worker.ask("models/remove", name=shown["name"])["error"]["message"]


def test_a_folder_is_evaluated_as_by_the_command(scans, tmp_path):
    with WorkerProcess(tmp_path / "temporary", WORKER) as worker:
        asked = {
            "folder": str(scans),
            "supports": ["pt_0"],
            "output": str(tmp_path / "evaluation"),
            "methods": ["box"],
            "queries": ["pt_1"],
            "repeats": 1,
        }
        report = Path(worker.ask("evaluate", **asked)["result"]["report"])
        assert "box" in report.read_text(encoding="utf-8")
        other = {"two_fold": True, "save_segmentations": True, "image_suffix": "_ct", "label_suffix": ".seg.nrrd"}
        folds = {**asked, **other, "output": str(tmp_path / "folds")}
        del folds["supports"], folds["queries"]
        answer = worker.ask("evaluate", **folds)
        assert "box" in Path(answer["result"]["report"]).read_text(encoding="utf-8")
        kept = (tmp_path / "folds" / "segmentations").rglob("*.seg.nrrd")
        assert {path.name for path in kept} == {f"pt_{n}.seg.nrrd" for n in range(3)}
        nobody = worker.ask("evaluate", **{**asked, "supports": None})["error"]
        assert nobody["code"] == protocol.WRONG_INPUT and "support" in nobody["message"]
        unknown = worker.ask("evaluate", **{**asked, "supports": ["nobody"]})["error"]
        assert unknown["code"] == protocol.WRONG_INPUT and "nobody" in unknown["message"]
        for wrong in (
            {"repeats": "many"},
            {"repeats": []},
            {"shots": 1},
            {"methods": ["magic"]},
            {"two_fold": "yes"},
            {"image_suffix": 1},
        ):
            assert worker.ask("evaluate", **{**asked, **wrong})["error"]["code"] == protocol.INVALID_PARAMS
