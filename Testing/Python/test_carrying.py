"""Files carried to a worker that shares no disk, and back: complete, checked, and never out of its own folder."""

import hashlib
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from SSLFewShotLib.errors import Cancelled, InputError, OutputError
from SSLFewShotLib.worker import carrying, protocol
from SSLFewShotLib.worker.carried_files import CarriedFiles
from SSLFewShotLib.worker.carried_names import carried_name, flaw_of
from SSLFewShotLib.worker.carried_pieces import LARGEST_PIECE, packed, unpacked
from SSLFewShotLib.worker.carrier import PIECE, Carrier
from SSLFewShotLib.worker.failures import described
from SSLFewShotLib.worker.handler import Context, checked
from SSLFewShotLib.worker.other_names import OtherNames
from SSLFewShotLib.worker.request import WorkerError

NEVER = 1 << 60


def sum_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Answered:
    def __init__(self, outcome):
        self.outcome = outcome

    def result(self, timeout=None):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class HandlersAsClient:
    """A client whose worker are the handlers themselves, with the messages going through the protocol's text.

    damage: changes the parameters of a request, or its result, on the way; taken off one by one.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.info = {"folder": str(folder), "shares_disk": False}
        self.asked: list[tuple[str, dict]] = []
        self.damage: list = []

    def request(self, method, params, on_progress=None):
        self.asked.append((method, params))
        if self.damage:
            params = self.damage.pop(0)(dict(params))
        sent = protocol.decode(protocol.encode(protocol.request(len(self.asked), method, params)))
        handler = carrying.HANDLERS[sent["method"]]
        context = Context(lambda fraction, message: None, self.folder, None, lambda level, message: None)
        try:
            value = handler.run(checked(sent["params"], handler.params), context)
        except Exception as error:
            return Answered(WorkerError(*described(error)))
        return Answered(json.loads(json.dumps(value)))

    @property
    def bytes_sent(self) -> int:
        return sum(len(unpacked(params["data"])) for method, params in self.asked if method == "files/put")


@pytest.fixture
def client(tmp_path) -> HandlersAsClient:
    (tmp_path / "worker").mkdir()
    return HandlersAsClient(tmp_path / "worker")


@pytest.fixture
def here(tmp_path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.fixture
def files(tmp_path) -> CarriedFiles:
    (tmp_path / "worker").mkdir(exist_ok=True)
    return CarriedFiles(tmp_path / "worker")


def put(files: CarriedFiles, name: str, content: bytes, **changes) -> dict:
    piece = {"size": len(content), "sha256": sum_of(content), "offset": 0, "data": packed(content), "last": True}
    return files.put(**{"name": name, **piece, **changes})


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# Carrying


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, 3 * PIECE + 17])
def test_a_file_comes_back_as_it_was_sent(client, here, size):
    data = os.urandom(size // 2) + bytes(size - size // 2)
    (here / "pt_1_ct.nrrd").write_bytes(data)
    there = Carrier(client).put(here / "pt_1_ct.nrrd")
    assert Path(there).name == "pt_1_ct.nrrd" and Path(there).read_bytes() == data
    assert client.folder in Path(there).parents
    Carrier(client).get(there, here / "back" / "again.nrrd")
    assert (here / "back" / "again.nrrd").read_bytes() == data


def test_what_the_worker_has_is_not_sent_again_under_whatever_name(client, here):
    data = os.urandom(2 * PIECE)
    for name in ("one.nrrd", "other.nrrd"):
        (here / name).write_bytes(data)
    carrier = Carrier(client)
    first = carrier.put(here / "one.nrrd")
    assert client.bytes_sent == len(data)
    assert carrier.put(here / "one.nrrd") == first
    assert Carrier(client).put(here / "one.nrrd") == first
    second = carrier.put(here / "other.nrrd")
    assert client.bytes_sent == len(data)
    assert Path(second).name == "other.nrrd" and Path(second).read_bytes() == data
    carrier.remove(first)
    assert Path(second).read_bytes() == data


def test_a_file_that_changed_is_sent_anew(client, here):
    (here / "scan.nrrd").write_bytes(b"before")
    carrier = Carrier(client)
    first = carrier.put(here / "scan.nrrd")
    (here / "scan.nrrd").write_bytes(b"after!!")
    second = carrier.put(here / "scan.nrrd")
    assert (Path(first).read_bytes(), Path(second).read_bytes()) == (b"before", b"after!!")


def test_voxels_travel_compressed_and_what_cannot_be_compressed_does_not_grow(client, here):
    (here / "voxels.nrrd").write_bytes(bytes(4 * PIECE))
    (here / "packed.nii.gz").write_bytes(os.urandom(4 * PIECE))
    for name, most in (("voxels.nrrd", 0.02), ("packed.nii.gz", 1.35)):
        client.asked.clear()
        Carrier(client).put(here / name)
        assert sum(len(params["data"]) for _, params in client.asked) < most * 4 * PIECE


def test_a_dicom_folder_is_carried_as_a_folder_with_its_name(client, here):
    series = here / "pt 7" / "series"
    series.mkdir(parents=True)
    for number in range(3):
        (series / f"IM{number}").write_bytes(bytes(128) + b"DICM" + bytes([number]))
    (series / "notes.txt").write_text("not a slice")
    (series / ".hidden.dcm").write_bytes(b"left out")
    there = Path(Carrier(client).put(here / "pt 7"))
    assert there.name == "pt 7"
    assert files_below(there) == ["series/IM0", "series/IM1", "series/IM2"]


def test_a_link_back_to_a_folder_above_is_not_followed_for_ever(client, here):
    (here / "scans").mkdir()
    (here / "scans" / "a.nrrd").write_bytes(b"a")
    (here / "scans" / "again").symlink_to(here / "scans")
    assert files_below(Path(Carrier(client).put(here / "scans"))) == ["a.nrrd"]


def test_the_voxels_of_an_image_of_two_files_and_the_names_of_its_labels_go_along(client, here):
    (here / "a.mhd").write_text("NDims = 3\nElementDataFile = a.raw\n")
    (here / "b.nhdr").write_text("NRRD0004\ntype: short\ndata file: b.raw\n\n")
    (here / "c.mhd").write_text("NDims = 3\nElementDataFile = LIST\na.raw\nb.raw\n")
    (here / "d.nii.gz").write_bytes(b"labels")
    (here / "d_labels.json").write_text('{"1": "Liver"}')
    for name in ("a.raw", "b.raw"):
        (here / name).write_bytes(name.encode())
    beside = {
        name: files_below(Path(Carrier(client).put(here / name)).parent)
        for name in ("a.mhd", "b.nhdr", "c.mhd", "d.nii.gz")
    }
    assert beside == {
        "a.mhd": ["a.mhd", "a.raw"],
        "b.nhdr": ["b.nhdr", "b.raw"],
        "c.mhd": ["a.raw", "b.raw", "c.mhd"],
        "d.nii.gz": ["d.nii.gz", "d_labels.json"],
    }


def test_a_header_whose_voxels_cannot_be_carried_is_an_input_error_that_says_so(client, here):
    for line, reason in (
        ("ElementDataFile = gone.raw", "is not there"),
        ("ElementDataFile = %03d.raw 1 9 1", "numbered files or in another folder"),
        ("ElementDataFile = ../a.raw", "numbered files or in another folder"),
    ):
        (here / "a.mhd").write_text(f"NDims = 3\n{line}\n")
        with pytest.raises(InputError, match=reason):
            Carrier(client).put(here / "a.mhd")
    assert client.bytes_sent == 0


def test_what_is_not_there_or_holds_no_scan_is_an_input_error(client, here):
    for path, reason in ((here / "none.nrrd", "no such file"), (here, "no scan lies")):
        with pytest.raises(InputError, match=reason):
            Carrier(client).put(path)


@pytest.mark.parametrize(
    "name",
    ["a b.nrrd", "ü 肺 'q'.nii.gz", "con.nrrd", "a:b*?.nii.gz", "x" * 240 + ".nrrd", "r\u202egpj.nrrd", "／.nrrd"],
)
def test_any_name_is_carried_and_keeps_its_ending(client, here, name):
    (here / name).write_bytes(b"voxels")
    there = Path(Carrier(client).put(here / name))
    assert there.read_bytes() == b"voxels"
    assert there.name.endswith(name[-5:])
    assert flaw_of(there.name) == ""
    assert (there.name == name) == (name in ("a b.nrrd", "ü 肺 'q'.nii.gz"))
    names = OtherNames()
    names.renamed([name])
    result = there.name.split(".")[0] + "_seg.nrrd"
    assert names.ours(result) == name.split(".")[0] + "_seg.nrrd"
    assert names.theirs(names.ours(result)) == result


def test_bytes_are_told_as_they_go_and_a_cancel_stops_them(client, here):
    (here / "scan.nrrd").write_bytes(os.urandom(6 * PIECE))
    told = []
    there = Carrier(client).put(here / "scan.nrrd", lambda done, of: told.append((done, of)))
    assert told == sorted(told) and told[-1] == (6 * PIECE, 6 * PIECE) and len(told) == 6
    told.clear()
    Carrier(client).get(there, here / "back.nrrd", lambda done, of: told.append((done, of)))
    assert told == [(n * PIECE, 6 * PIECE) for n in range(1, 7)]

    def cancel(done, of):
        raise Cancelled

    with pytest.raises(Cancelled):
        Carrier(client).get(there, here / "cancelled.nrrd", cancel)
    (here / "other.nrrd").write_bytes(os.urandom(6 * PIECE))
    with pytest.raises(Cancelled):
        Carrier(client).put(here / "other.nrrd", cancel)
    assert not (here / "cancelled.nrrd").exists() and files_below(here) == ["back.nrrd", "other.nrrd", "scan.nrrd"]


# Faults on the way


def changed(key, change):
    return lambda params: {**params, key: change(params[key])}


def unchanged(params):
    return params


@pytest.mark.parametrize(
    "damage",
    [
        changed("data", lambda data: data[:-40] + "A" * 40),
        changed("data", lambda data: data[: len(data) // 2]),
        changed("data", lambda data: packed(unpacked(data)[::-1])),
        changed("offset", lambda offset: offset + 1),
    ],
    ids=["damaged", "cut short", "other bytes", "out of order"],
)
def test_a_piece_that_was_damaged_is_sent_again_until_the_file_is_whole(client, here, damage):
    data = os.urandom(5 * PIECE)
    (here / "scan.nrrd").write_bytes(data)
    client.damage = [unchanged, unchanged, damage]
    there = Carrier(client).put(here / "scan.nrrd")
    assert Path(there).read_bytes() == data


def test_a_file_that_never_arrives_whole_is_given_up_and_leaves_nothing(client, here):
    (here / "scan.nrrd").write_bytes(os.urandom(100))
    client.damage = [unchanged, changed("data", lambda data: packed(b"x" * 100))] * 3
    with pytest.raises(WorkerError, match="checksum") as caught:
        Carrier(client).put(here / "scan.nrrd")
    assert caught.value.code == protocol.WRONG_INPUT
    assert files_below(client.folder) == []


def test_a_file_that_goes_on_growing_while_it_is_sent_is_an_input_error(client, here):
    scan = here / "scan.nrrd"
    scan.write_bytes(os.urandom(100))

    def overwritten(params):
        scan.write_bytes(os.urandom(150))
        return {**params, "data": packed(unpacked(params["data"])[::-1])}

    client.damage = [unchanged, overwritten]
    with pytest.raises(InputError, match=r"scan.nrrd: has changed while it was sent"):
        Carrier(client).put(scan)


def test_sending_goes_on_where_it_stopped(client, here):
    data = os.urandom(12 * PIECE)
    (here / "scan.nrrd").write_bytes(data)

    def stop(done, of):
        if done == 2 * PIECE:
            raise Cancelled

    with pytest.raises(Cancelled):
        Carrier(client).put(here / "scan.nrrd", stop)
    assert client.bytes_sent < len(data)
    assert Path(Carrier(client).put(here / "scan.nrrd")).read_bytes() == data
    assert client.bytes_sent == len(data)


def test_a_file_damaged_on_its_way_here_is_fetched_again_and_never_half_there(client, here):
    (here / "scan.nrrd").write_bytes(os.urandom(3 * PIECE))
    there = Carrier(client).put(here / "scan.nrrd")
    plain, damaged = client.request, []

    def damaging(method, params, on_progress=None):
        answer = plain(method, params)
        if method == "files/get" and damaged:
            answer.outcome["data"] = packed(damaged.pop())
        return answer

    client.request = damaging
    damaged[:] = [b"something else"]
    Carrier(client).get(there, here / "back.nrrd")
    assert (here / "back.nrrd").read_bytes() == (here / "scan.nrrd").read_bytes()
    damaged[:] = [b"always something else"] * 50
    with pytest.raises(OutputError, match=r"damaged on its way"):
        Carrier(client).get(there, here / "never.nrrd")
    assert files_below(here) == ["back.nrrd", "scan.nrrd"]


# The worker's side


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
