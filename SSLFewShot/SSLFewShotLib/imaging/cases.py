"""Cases and scans in folders: which image belongs to which labels.

The rule: a label file ends in .seg.nrrd, or its stem ends in one of `LABEL_ENDINGS` after "_", "-" or "."
(pt_013_seg.nii.gz, pt_013-mask.nrrd). What remains is the case's stem, "pt_013". Its image is the file with
exactly that stem (pt_013.nii.gz), else the one with that stem up to its last "_" or "-" (pt_013_ct.nii.gz).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.imaging.dicom import holds_dicom
from SSLFewShotLib.imaging.files import file_format, read_labels, read_volume, stem
from SSLFewShotLib.imaging.labelmap import LabelMap
from SSLFewShotLib.imaging.resampling import labels_on_grid
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.progress import Progress, ignore_progress, portion

LABEL_ENDINGS = ("seg", "segmentation", "label", "labels", "labelmap", "mask", "masks")

# What scans without labels are called after their case's stem; "0000" is nnU-Net's first channel.
_IMAGE_ENDINGS = ("ct", "cbct", "mr", "mri", "t1", "t1w", "t2", "t2w", "flair", "pet", "img", "image", "0000")

_LABEL = re.compile(rf"^(.*?)[_.\- ]?(?:{'|'.join(LABEL_ENDINGS)})$", re.IGNORECASE)
_LABEL_AFTER_SEPARATOR = re.compile(rf"^(?:.*[_.\- ])?(?:{'|'.join(LABEL_ENDINGS)})$", re.IGNORECASE)
_IMAGE = re.compile(rf"^(.+)[_\-](?:{'|'.join(_IMAGE_ENDINGS)})$", re.IGNORECASE)
_LAST_TOKEN = re.compile(r"^(.+)[_\-][^_\-]*$")


@dataclass(frozen=True)
class Case:
    """One patient's image and, when there are any, its labels; `image` can be a DICOM folder."""

    id: str
    image: Path
    labels: Path | None = None


def is_label_file(path: Path | str) -> bool:
    """Whether a path's name says that it holds labels."""
    return file_format(path) == ".seg.nrrd" or bool(_LABEL_AFTER_SEPARATOR.match(stem(path)))


def find_scans(path: Path | str) -> list[Path]:
    """Every scan at or below a path, sorted: image files by their ending, and folders that hold DICOM slices.

    Label files, hidden files and folders, and confidence maps written by this library are left out. Nothing is
    read, so that a damaged scan is found too.
    Raises InputError when the path does not exist or has no scan.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the name")
    if path.is_file():
        return [path]
    scans = [found for found in _entries_below(path) if not is_label_file(found) and not _is_confidence(found)]
    if not scans:
        raise InputError(
            f"{path}: no scan lies in this folder; .nrrd, .nii.gz, .nii, .mha, .mhd or DICOM files were expected"
        )
    return scans


def _entries_below(folder: Path) -> list[Path]:
    """Image files and DICOM folders at or below a folder, sorted."""
    found = [folder] if holds_dicom(folder) else []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            # A link back to a folder above would go round for ever.
            found += (
                [] if entry.resolve() in (folder.resolve(), *folder.resolve().parents) else _entries_below(entry)
            )
        elif file_format(entry) not in ("", ".dcm"):
            found.append(entry)
    return found


def _is_confidence(path: Path) -> bool:
    return stem(path).endswith("_confidence")


def find_cases(folder: Path | str, image_suffix: str | None = None, label_suffix: str | None = None) -> list[Case]:
    """Pair the images and labels at or below a folder by the rule above; sorted by id.

    image_suffix, label_suffix: what the names end in instead of the rule, with or without the file's ending:
        "_t1" or "_t1.nii.gz" picks pat7_t1.nii.gz out of several images of a case.

    Scans without labels are cases too (`labels` is None). Labels without an image are left out with an
    `InputWarning`. An id is unique: where sub-folders repeat a stem, the sub-folder's name precedes it.
    Raises InputError for a missing or empty folder, and where a case has several images or several labels.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: a folder of scans was expected; check the name")
    entries = [entry for entry in _entries_below(folder) if not _is_confidence(entry)]
    groups: dict[Path, list[Path]] = {}
    for entry in entries:
        groups.setdefault(entry.parent, []).append(entry)
    found = [case for group in groups.values() for case in _paired(group, image_suffix, label_suffix)]
    if not found:
        wanted = f' whose name ends in "{image_suffix}"' if image_suffix else ""
        raise InputError(f"{folder}: no image{wanted} lies in this folder; check the folder and the suffixes")
    return sorted(_with_unique_ids(found, folder), key=lambda case: case.id)


def _paired(group: list[Path], image_suffix: str | None, label_suffix: str | None) -> list[Case]:
    """The cases among the entries of one folder."""
    labels: dict[str, Path] = {}
    images: list[Path] = []
    for path in group:
        base = _label_base(path, label_suffix)
        if base is None:
            images.append(path)
        elif base in labels:
            raise InputError(
                f"{path}: a second label file for case {base or path.parent.name} beside {labels[base].name}; say "
                "with the label suffix which to take"
            )
        else:
            labels[base] = path
    if image_suffix is not None:
        images = [path for path in images if _without_suffix(path, image_suffix) is not None]

    cases: list[Case] = []
    taken: set[Path] = set()
    for base, label in labels.items():
        matching = _images_of(base, images, image_suffix)
        if not matching:
            warnings.warn(f"{label}: no image belongs to these labels; left out", InputWarning, stacklevel=3)
            continue
        if len(matching) > 1:
            names = ", ".join(path.name for path in matching)
            raise InputError(
                f"{label}: several images could belong to these labels ({names}); say with the image suffix which "
                'to take, "_ct" for example'
            )
        taken.add(matching[0])
        cases.append(Case(base or label.parent.name, matching[0], label))
    unlabelled = [path for path in images if path not in taken]
    return cases + [Case(_image_base(path, image_suffix), path) for path in unlabelled]


def _label_base(path: Path, suffix: str | None) -> str | None:
    """What precedes the ending that marks labels; None when the file is no label file."""
    if suffix is not None:
        return _without_suffix(path, suffix)
    if not is_label_file(path):
        return None
    named = stem(path)
    return _LABEL.match(named)[1] if _LABEL_AFTER_SEPARATOR.match(named) else named


def _image_base(path: Path, suffix: str | None) -> str:
    if suffix is not None:
        return _without_suffix(path, suffix) or path.parent.name
    match = _IMAGE.match(stem(path))
    return match[1] if match else stem(path)


def _images_of(base: str, images: list[Path], suffix: str | None) -> list[Path]:
    if suffix is not None:
        return [path for path in images if _without_suffix(path, suffix) == base]
    # A folder a patient, "seg.nrrd" beside the one image.
    if not base:
        return images
    exact = [path for path in images if stem(path) == base]
    return exact or [path for path in images if (m := _LAST_TOKEN.match(stem(path))) and m[1] == base]


def _without_suffix(path: Path, suffix: str) -> str | None:
    for text in (path.name, stem(path)):
        if text.endswith(suffix):
            return text[: len(text) - len(suffix)].rstrip("_-. ")
    return None


def _with_unique_ids(cases: list[Case], folder: Path) -> list[Case]:
    seen: dict[str, int] = {}
    for case in cases:
        seen[case.id] = seen.get(case.id, 0) + 1
    unique: dict[str, Case] = {}
    for case in cases:
        identity = case.id
        if seen[identity] > 1:
            within = case.image.parent.relative_to(folder).as_posix() if case.image != folder else ""
            # Two scans of one patient without labels in one folder keep their whole stems.
            identity = stem(case.image) if within in ("", ".") else f"{within}/{stem(case.image)}"
        if identity in unique:
            raise InputError(
                f"{case.image}: has the same case id as {unique[identity].image.name}; keep one of them, or give "
                "the image suffix"
            )
        unique[identity] = Case(identity, case.image, case.labels)
    return list(unique.values())


def select_cases(cases: Sequence[Case], ids: Iterable[str]) -> list[Case]:
    """The cases with these ids, in their order: "pt_013", or its number "013" or "13" where that is unambiguous.

    Raises InputError for an id that no case or several cases have, and for one given twice.
    """
    chosen: list[Case] = []
    for wanted in (text.strip() for text in ids):
        matching = [case for case in cases if case.id == wanted]
        if not matching and wanted.isdecimal():
            matching = [case for case in cases if _number(case.id) == int(wanted)]
        if len(matching) > 1:
            names = ", ".join(case.id for case in matching)
            raise InputError(f"{wanted}: several cases have this number ({names}); give the whole id")
        if not matching:
            shown = ", ".join(case.id for case in cases[:8])
            raise InputError(f"{wanted}: no case has this id; there are {shown}{', …' if len(cases) > 8 else ''}")
        if matching[0] in chosen:
            raise InputError(f"{wanted}: the case {matching[0].id} was named twice; name each case once")
        chosen.append(matching[0])
    return chosen


def _number(identity: str) -> int | None:
    """The last number in an id, "pt_013" → 13."""
    digits = re.findall(r"\d+", identity)
    return int(digits[-1]) if digits else None


def read_case(case: Case, progress: Progress = ignore_progress) -> tuple[Volume, LabelMap]:
    """Read a case's image and its labels, brought to the image's grid (see `resampling.labels_on_grid`).

    Raises InputError when the case has no labels or a file cannot be used.
    """
    if case.labels is None:
        raise InputError(f"{case.image}: the case {case.id} has no labels; mark it, or choose another case")
    volume = read_volume(case.image, portion(progress, 0, 0.6))
    return volume, labels_on_grid(read_labels(case.labels, portion(progress, 0.6, 1)), volume)
