"""Models as zip archives: what is exported is imported, and nothing else is let in."""

import errno
import os
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_samples import change_card, files_below, saved_model, set_at, store_with_one_bundled_model, the_error
from SSLFewShotLib.errors import InputError, OutputError
from SSLFewShotLib.models import ModelStore, NameTakenError
from SSLFewShotLib.models import archive as archive_module


@pytest.fixture
def model(tmp_path) -> Path:
    return saved_model(tmp_path / "made")


@pytest.fixture
def store(tmp_path) -> ModelStore:
    return store_with_one_bundled_model(tmp_path)


def test_an_exported_model_is_imported_again(store, model, tmp_path):
    store.add(model)
    archive = tmp_path / "Modèle ü.zip"
    store.export(model.name, archive)
    other = ModelStore(tmp_path / "other", store.bundled_folder)
    entry = other.import_archive(archive)
    assert entry.card == store.find(model.name).card and not entry.bundled
    assert files_below(entry.folder) == files_below(model)


def test_the_same_model_is_always_the_same_archive(store, model, tmp_path):
    store.export(model, tmp_path / "a.zip")
    os.utime(model / "card.json", (0, 0))
    store.export(model, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_an_existing_archive_is_not_overwritten_unless_asked(store, tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(b"mine")
    assert "overwrite it" in the_error(store.export, "bundled-ct", archive)
    assert archive.read_bytes() == b"mine"
    store.export("bundled-ct", archive, overwrite=True)
    assert zipfile.is_zipfile(archive)


def test_a_broken_model_is_not_exported(store, model, tmp_path):
    path = model / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert "checksum" in the_error(store.export, model, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_an_archive_is_named_zip(store, tmp_path):
    assert ".zip" in the_error(store.export, "bundled-ct", tmp_path / "a.tar")


def test_importing_a_model_that_is_there_needs_overwrite(store, model, tmp_path):
    store.export(model, tmp_path / "a.zip")
    store.import_archive(tmp_path / "a.zip")
    assert "replace it (overwrite), or choose" in the_error(store.import_archive, tmp_path / "a.zip")
    store.import_archive(tmp_path / "a.zip", overwrite=True)
    store.export("bundled-ct", tmp_path / "b.zip")
    assert "is a bundled model's" in the_error(store.import_archive, tmp_path / "b.zip", overwrite=True)


def test_a_model_whose_name_is_taken_comes_in_under_another(store, model, tmp_path):
    store.export("bundled-ct", tmp_path / "b.zip")
    for name in ("bundled-ct-2", "bundled-ct-3"):
        with pytest.raises(NameTakenError) as taken:
            store.import_archive(tmp_path / "b.zip")
        assert taken.value.details == {"free": name, "replaceable": False}
        entry = store.import_archive(tmp_path / "b.zip", name=name)
        assert (entry.card.name, entry.folder.name) == (name, name)
        theirs, ours = store.find("bundled-ct").load(), store.find(name).load()
        assert ours[0].to_dict() == {**theirs[0].to_dict(), "name": name}
        assert all(np.array_equal(theirs[1][key], ours[1][key]) for key in theirs[1])
    entry = store.add(store.find("bundled-ct").folder, name="from-a-folder")
    assert store.find("from-a-folder").load()[0].name == "from-a-folder"
    with pytest.raises(NameTakenError) as taken:
        store.import_archive(tmp_path / "b.zip", name="from-a-folder")
    assert taken.value.details["replaceable"]
    assert "not a model name" in the_error(store.import_archive, tmp_path / "b.zip", name="Ä b")


def test_a_full_disk_leaves_the_store_as_it_was(store, model, tmp_path, monkeypatch):
    store.export(model, tmp_path / "a.zip")
    store.add(model)
    before = files_below(tmp_path)

    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert "no space left" in the_error(store.import_archive, tmp_path / "a.zip", overwrite=True, kind=OutputError)
    assert files_below(tmp_path) == before


@pytest.fixture
def parts(model) -> dict[str, bytes]:
    return files_below(model)


def zipped(path: Path, entries, compression=zipfile.ZIP_DEFLATED) -> Path:
    """A zip of (name or ZipInfo, content), whatever the names."""
    with zipfile.ZipFile(path, "w", compression) as target:
        for name, content in entries:
            target.writestr(name, content)
    return path


def special(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, mode << 16
    return entry


def refused(store: ModelStore, archive: Path) -> str:
    """The error of importing; nothing may have come into the store or beside it."""
    root = store.user_folder.parent
    before = files_below(root)
    message = the_error(store.import_archive, archive)
    assert str(archive) in message
    assert files_below(root) == before and not store.user_folder.exists()
    return message


def test_an_archive_that_was_compressed_by_hand_is_imported(store, parts, tmp_path):
    assert store.import_archive(zipped(tmp_path / "a.zip", parts.items())).card.name == "heatmap-head-neck-ct"


@pytest.mark.parametrize(
    "name, said",
    [
        ("../card.json", "would leave"),
        ("../../../etc/cron.d/x", "would leave"),
        ("a/../../x", "would leave"),
        ("..\\x", "would leave"),
        ("/etc/passwd", "would leave"),
        ("\\\\server\\x", "would leave"),
        ("C:x", "would leave"),
        ("C:\\Windows\\x", "would leave"),
        ("heatmap-head-neck-ct/card.json", "is a folder or lies in one"),
        ("folder/", "is a folder or lies in one"),
        ("setup.py", "is not a file of a model"),
        ("weights.pt", "is not a file of a model"),
        ("Card.json", "is not a file of a model"),
        ("loss.csv\x1b[2J", "is not a file of a model"),
        ("card.json", "is there twice"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_an_entry_that_has_no_place_in_a_model_is_refused(store, parts, tmp_path, name, said):
    assert said in refused(store, zipped(tmp_path / "a.zip", [*parts.items(), (name, b"x")]))


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
@pytest.mark.parametrize("name", ["loss.csv", "weights.safetensors"])
def test_an_archive_with_a_link_or_device_is_refused(store, parts, tmp_path, name, mode):
    parts.pop(name, None)
    entries = [*parts.items(), (special(name, mode), b"/etc/passwd")]
    assert "is a link or another special file" in refused(store, zipped(tmp_path / "a.zip", entries))


@pytest.mark.parametrize("missing", ["card.json", "weights.safetensors"])
def test_an_archive_without_card_or_weights_is_refused(store, parts, tmp_path, missing):
    del parts[missing]
    assert f"{missing} is missing" in refused(store, zipped(tmp_path / "a.zip", parts.items()))


def test_a_zip_bomb_is_refused_before_it_is_decompressed(store, parts, tmp_path, monkeypatch):
    monkeypatch.setattr(archive_module, "_read", lambda *_: pytest.fail("was decompressed"))
    bomb = [*parts.items(), ("loss.csv", b"\0" * ((16 << 20) + 1))]
    archive = zipped(tmp_path / "a.zip", bomb)
    assert archive.stat().st_size < 100_000
    assert "too large when decompressed" in refused(store, archive)


def test_weights_larger_than_the_card_says_are_refused_before_they_are_decompressed(
    store, parts, tmp_path, monkeypatch
):
    read = archive_module._read
    seen = []
    monkeypatch.setattr(
        archive_module, "_read", lambda zip_, entry: seen.append(entry.filename) or read(zip_, entry)
    )
    parts["weights.safetensors"] = b"\0" * (8 << 20)
    assert "bytes where its card says" in refused(store, zipped(tmp_path / "a.zip", parts.items()))
    assert seen == ["card.json"]


def test_an_entry_that_lies_about_its_size_is_refused(store, parts, tmp_path):
    archive = zipped(tmp_path / "a.zip", [*parts.items(), ("loss.csv", b"\0" * (20 << 20))])
    content = archive.read_bytes()
    lie = content.replace(struct.pack("<I", 20 << 20), struct.pack("<I", 10))
    assert lie.count(struct.pack("<I", 10)) >= 2
    archive.write_bytes(lie)
    assert "damaged" in refused(store, archive)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_in_an_unusual_compression_is_refused(store, parts, tmp_path, compression):
    assert "compressed in a way" in refused(store, zipped(tmp_path / "a.zip", parts.items(), compression))


def test_an_encrypted_archive_is_refused(store, parts, tmp_path):
    archive = zipped(tmp_path / "a.zip", parts.items())
    content = bytearray(archive.read_bytes())
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + offset] |= 1
    archive.write_bytes(content)
    assert "is encrypted" in refused(store, archive)


@pytest.mark.parametrize(
    "content", [b"", b"not a zip", b"PK\x05\x06" + b"\0" * 18], ids=["empty", "text", "no entries"]
)
def test_a_file_that_is_no_model_archive_is_refused(store, tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    refused(store, tmp_path / "a.zip")


def test_an_archive_that_does_not_exist_is_refused(store, tmp_path):
    assert "no such file" in refused(store, tmp_path / "none.zip")


def test_a_truncated_archive_is_refused(store, model, tmp_path):
    store.export(model, tmp_path / "a.zip")
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content[: len(content) // 2])
    assert "damaged" in refused(store, tmp_path / "a.zip")


@pytest.mark.parametrize(
    "path, value, said",
    [("name", "../../x", "field name"), ("schema_version", 9, "update"), ("weights.sha256", "0" * 64, "checksum")],
)
def test_an_archive_with_a_card_that_is_wrong_is_refused(store, model, tmp_path, path, value, said):
    change_card(model, set_at(path, value))
    assert said in refused(store, zipped(tmp_path / "a.zip", files_below(model).items()))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), end=st.booleans())
def test_a_damaged_archive_is_either_refused_or_still_the_same_model(model, store, tmp_path, position, byte, end):
    archive = tmp_path / "a.zip"
    if not archive.exists():
        store.export(model, archive)
        (tmp_path / "whole").write_bytes(archive.read_bytes())
    content = bytearray((tmp_path / "whole").read_bytes())
    # Half of the damage goes to the last 400 bytes: the central directory, where zip readers go wrong.
    content[int(position * len(content)) if not end else len(content) - 1 - int(position * 400)] = byte
    archive.write_bytes(content)
    try:
        entry = store.import_archive(archive, overwrite=True)
    except InputError:
        return
    for name, content in files_below(entry.folder).items():
        assert content == (model / name).read_bytes()
