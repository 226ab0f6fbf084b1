"""The worker's folder of carried files: checked, bounded, and never left."""

import hashlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from carrying_worker import files_below
from SSLFewShotLib.errors import InputError, OutputError
from SSLFewShotLib.worker import protocol
from SSLFewShotLib.worker.carried_files import CarriedFiles
from SSLFewShotLib.worker.carried_names import carried_name
from SSLFewShotLib.worker.carried_pieces import LARGEST_PIECE, packed, unpacked
from SSLFewShotLib.worker.failures import described

NEVER = 1 << 60


def sum_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def files(tmp_path) -> CarriedFiles:
    (tmp_path / "worker").mkdir(exist_ok=True)
    return CarriedFiles(tmp_path / "worker")


def put(files: CarriedFiles, name: str, content: bytes, **changes) -> dict:
    piece = {"size": len(content), "sha256": sum_of(content), "offset": 0, "data": packed(content), "last": True}
    return files.put(**{"name": name, **piece, **changes})


@pytest.mark.parametrize(
    "name",
    [
        "../a.nrrd", "a/../../b.nrrd", "/etc/a.nrrd", "a//b", "", ".", "..", "a/", "C:a.nrrd", "C:\\a", "a\\..\\b",
        "\\\\host\\share", "a\0b", "a\nb", "a\u202eb", "‥/a", "．．/a", "a／b", "a\u200b", "\ud800",
        "nul", "NUL.nrrd", "a/com1.nii.gz", "aux .txt", "COM¹.nrrd", "a.", "a ", " a", "a" * 201,
        "/".join("a" * 17), "a|b", "a\u2028b", "…",
    ],
)  # fmt: skip
def test_a_name_that_could_lead_elsewhere_on_any_system_is_refused(files, name):
    before = files_below(files.root.parent.parent)
    with pytest.raises(InputError, match="cannot be carried"):
        put(files, name, b"data")
    assert files_below(files.root.parent.parent) == before


@pytest.mark.parametrize(
    "name", ["a.nrrd", "x/pt 1/IM.0001", "ü.nii.gz", "肺.nrrd", ".a", "conx", "communal.nii", "a..b"]
)
def test_an_ordinary_name_is_taken(files, name):
    assert Path(put(files, name, b"data")["path"]).read_bytes() == b"data"
    assert carried_name(name.split("/")[-1]) == name.split("/")[-1]


def outside(files: CarriedFiles) -> list[str]:
    """Ways to a file out of what was carried, which is there."""
    folder = files.root.parent
    secret = folder.parent / "secret.txt"
    secret.write_text("secret")
    (folder / "in-use").write_text("lock")
    put(files, "x/a.nrrd", b"data")
    (files.root / "link.nrrd").symlink_to(secret)
    (files.root / "up").symlink_to(folder.parent)
    (files.root / "x" / "same").symlink_to(files.root / "x")
    return [
        str(secret),
        str(folder),
        str(folder / "in-use"),
        str(files.root),
        str(files.root / ".." / ".." / "secret.txt"),
        str(files.root / "x" / ".." / "x" / "a.nrrd"),
        str(files.root / "link.nrrd"),
        str(files.root / "up" / "secret.txt"),
        str(files.root / "x" / "same" / "a.nrrd"),
        str(files.root) + "-other/a.nrrd",
        "carried/x/a.nrrd",
        "/etc/passwd",
        "",
        "a\0b",
    ]


def test_nothing_outside_of_what_was_carried_is_read_or_removed(files):
    for path in outside(files):
        with pytest.raises(InputError, match=r"only files that were carried|not there any more"):
            files.get(path, 0, 100)
        with pytest.raises(InputError, match="only files that were carried"):
            files.remove(path)
    assert (files.root.parent.parent / "secret.txt").read_text() == "secret"
    assert (files.root.parent / "in-use").exists() and (files.root / "x" / "a.nrrd").exists()


def test_nothing_is_written_through_a_link(files):
    elsewhere = files.root.parent.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept.nrrd").write_text("kept")
    files.root.mkdir()
    (files.root / "folder").symlink_to(elsewhere)
    (files.root / "kept.nrrd").symlink_to(elsewhere / "kept.nrrd")
    for name in ("folder/a.nrrd", "kept.nrrd"):
        with pytest.raises(InputError):
            put(files, name, b"data")
    assert files_below(elsewhere) == ["kept.nrrd"] and (elsewhere / "kept.nrrd").read_text() == "kept"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_among_the_results_does_not_hold_up_the_worker(files):
    put(files, "x/a.nrrd", b"data")
    os.mkfifo(files.root / "x" / "pipe")
    with pytest.raises(InputError, match="something else"):
        files.get(str(files.root / "x" / "pipe"), 0, 10)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"sha256": "0" * 64}, "checksum"),
        ({"sha256": "0" * 63}, "64 hex"),
        ({"sha256": "../" + "0" * 61}, "64 hex"),
        ({"size": -1}, "from 0 up"),
        ({"size": 3}, "more than the 3 bytes"),
        ({"size": 5}, "4 of 5 bytes"),
        ({"offset": 2}, "one at 0 was expected"),
        ({"offset": -1}, "from 0 up"),
        ({"data": "not base64!"}, "damaged"),
        ({"data": packed(b"data")[:-4]}, "damaged"),
        ({"data": packed(bytes(LARGEST_PIECE + 1))}, "holds more than"),
    ],
)
def test_a_wrong_piece_is_refused_and_nothing_of_it_stays(files, changes, reason):
    with pytest.raises(InputError, match=reason):
        put(files, "x/a.nrrd", b"data", **changes)
    assert [name for name in files_below(files.root.parent) if (files.root.parent / name).stat().st_size] == []
    assert Path(put(files, "x/a.nrrd", b"data")["path"]).read_bytes() == b"data", (
        "the right one is taken afterwards"
    )


def test_a_file_larger_than_the_free_disk_is_refused_before_anything_is_sent(files):
    with pytest.raises(OutputError, match="the worker's disk has room for"):
        put(files, "a.nrrd", b"", size=NEVER, sha256="0" * 64, last=False)
    assert described(OutputError(28, "x"))[0] == protocol.NOT_WRITTEN


def test_files_that_are_on_their_way_count_as_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    files = CarriedFiles(tmp_path, kept_free=100)
    put(files, "a.nrrd", b"", size=600, sha256="0" * 64, last=False)
    with pytest.raises(OutputError, match="room for"):
        put(files, "b.nrrd", b"", size=600, sha256="1" * 64, last=False)
    put(files, "b.nrrd", b"", size=300, sha256="1" * 64, last=False)


def test_a_disk_that_fills_up_on_the_way_leaves_no_piece(files):
    if sys.platform == "win32":
        pytest.skip("no limit of a file's size on this system")
    from command_line import no_file_larger_than

    with no_file_larger_than(1000), pytest.raises(OutputError, match="could not write what was sent"):
        put(files, "a.nrrd", os.urandom(5000))
    assert files_below(files.root) == []


def test_another_content_under_a_name_that_is_taken_is_refused(files):
    put(files, "a.nrrd", b"one")
    with pytest.raises(InputError, match="another file lies under this name"):
        put(files, "a.nrrd", b"two")
    files.remove(str(files.root / "a.nrrd"))
    put(files, "a.nrrd", b"two")


def test_removing_says_whether_there_was_something_and_forgets_it(files):
    path = put(files, "x/a.nrrd", b"data")["path"]
    put(files, "x/b.nrrd", b"more", size=100, last=False)
    assert files.remove(str(files.root / "x")) is True
    assert files.remove(str(files.root / "x")) is False
    assert files_below(files.root) == []
    assert put(files, "x/a.nrrd", b"", size=4, sha256=sum_of(b"data"), last=False) == {"received": 0, "path": None}
    with pytest.raises(InputError, match="not there any more"):
        files.get(path, 0, 10)


def test_a_carried_file_that_was_changed_in_the_workers_folder_is_not_taken_for_the_one_that_was_sent(files):
    path = Path(put(files, "x/a.nrrd", b"data")["path"])
    path.write_bytes(b"other data")
    assert put(files, "y/a.nrrd", b"", size=4, sha256=sum_of(b"data"), last=False)["path"] is None


def test_only_pieces_of_a_sensible_size_are_given(files):
    path = put(files, "a.nrrd", b"data")["path"]
    for offset, length in ((-1, 10), (0, 0), (0, LARGEST_PIECE + 1), (5, 10)):
        with pytest.raises(InputError):
            files.get(path, offset, length)
    assert files.get(path, 4, 10) == {"data": "", "size": 4, "sha256": sum_of(b"data"), "last": True}


def test_a_piece_never_looks_like_a_path_whose_name_a_log_hides():
    text = packed(os.urandom(1 << 16))
    assert not set("/\\.") & set(text)
    assert unpacked(text) == unpacked(text.replace("-", "+").replace("_", "/")), "plain base64 is understood too"
