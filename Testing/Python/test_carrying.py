"""Files carried to a worker that shares no disk, and back: complete, whatever goes wrong on the way."""

import os
from pathlib import Path

import pytest
from carrying_worker import HandlersAsClient, files_below
from SSLFewShotLib.errors import Cancelled, InputError, OutputError
from SSLFewShotLib.worker import protocol
from SSLFewShotLib.worker.carried_names import flaw_of
from SSLFewShotLib.worker.carried_pieces import packed, unpacked
from SSLFewShotLib.worker.carrier import PIECE, Carrier
from SSLFewShotLib.worker.other_names import OtherNames
from SSLFewShotLib.worker.request import WorkerError


@pytest.fixture
def client(tmp_path) -> HandlersAsClient:
    (tmp_path / "worker").mkdir()
    return HandlersAsClient(tmp_path / "worker")


@pytest.fixture
def here(tmp_path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


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
