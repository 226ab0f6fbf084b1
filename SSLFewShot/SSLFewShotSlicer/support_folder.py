"""A set of marked scans as a folder: numbered scans with their segmentations beside them, and a list of both."""

import json
from pathlib import Path

import slicer

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.outputs import write_text
from SSLFewShotSlicer.bridge import take_segments, take_volume
from SSLFewShotSlicer.jobs import in_thread
from SSLFewShotSlicer.translation import _

CONTENTS = "support.json"


def saving(pairs, folder, structures=None):
    """The steps of a job that saves marked scans in a folder; its result is the folder.

    Writes support_1.nrrd, support_1.seg.nrrd, … and support.json with the names. Raises InputError when the folder
    holds a set already.
    """
    folder = Path(folder)

    def steps(job):
        if (folder / CONTENTS).exists():
            raise InputError(
                _("{folder}: holds a set of marked scans already; choose an empty folder").format(folder=folder)
            )
        listed = []
        for number, (volume, segmentation) in enumerate(pairs, start=1):
            job.report((number - 1) / len(pairs), _("saving {scan}").format(scan=volume.GetName()))
            source = take_volume(volume)
            labels = take_segments(segmentation, source)
            image, marks = f"support_{number}.nrrd", f"support_{number}.seg.nrrd"
            yield in_thread(source.write, folder / image)
            yield in_thread(labels.write, folder / marks)
            listed.append({"image": image, "labels": marks, "name": source.name, "segmentation": labels.name})
        contents = {"version": 1, "supports": listed, "structures": structures}
        yield in_thread(write_text, folder / CONTENTS, json.dumps(contents, indent=2, ensure_ascii=False) + "\n")
        return str(folder)

    return steps


def load(folder):
    """Load marked scans from a folder into the scene; returns [(volume, segmentation)].

    Raises InputError when the folder holds no set, or a file of it is missing or unreadable; the scene is then as
    before.
    """
    folder = Path(folder)
    listed = _listed(folder)
    loaded = []
    try:
        for entry in listed:
            volume = _load(slicer.util.loadVolume, folder / entry["image"], entry["name"])
            loaded.append(volume)
            segmentation = _load(slicer.util.loadSegmentation, folder / entry["labels"], entry["segmentation"])
            segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
            loaded.append(segmentation)
    except InputError:
        for node in loaded:
            slicer.mrmlScene.RemoveNode(node)
        raise
    return list(zip(loaded[::2], loaded[1::2]))


def _listed(folder):
    try:
        contents = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))
        listed = [
            {key: str(entry[key]) for key in ("image", "labels", "name", "segmentation")}
            for entry in contents["supports"]
        ]
    except FileNotFoundError:
        raise InputError(
            _("{folder}: has no {file}; choose a folder that was made with Save set").format(
                folder=folder, file=CONTENTS
            )
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            _("{folder}: its {file} cannot be read; save the set again").format(folder=folder, file=CONTENTS)
        ) from error
    for entry in listed:
        for key in ("image", "labels"):
            # A set comes from somebody else, perhaps: its names must not lead out of the folder.
            if Path(entry[key]).name != entry[key] or not (folder / entry[key]).is_file():
                raise InputError(
                    _("{folder}: {file} is missing from the set; save the set again").format(
                        folder=folder, file=entry[key]
                    )
                )
    if not listed:
        raise InputError(_("{folder}: the set is empty; save it again").format(folder=folder))
    return listed


def _load(load_with, path, name):
    try:
        node = load_with(str(path), {"name": name})
    except RuntimeError as error:
        raise InputError(
            _("{file}: cannot be read; it is damaged, save the set again").format(file=path)
        ) from error
    return node
