"""What a writer that was killed leaves behind, and how it is taken away."""

import os
import signal
import subprocess
import sys

import pytest
from SSLFewShotLib.outputs import remove_leftovers, written_atomically

WRITER = """
import sys, time
from pathlib import Path
from SSLFewShotLib.outputs import written_atomically
with written_atomically(Path(sys.argv[1])) as outer, written_atomically(outer) as inner:
    inner.write_text("half")
    print("begun", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "result")], stdout=subprocess.PIPE)
    writer.stdout.readline()
    writer.kill()
    writer.communicate()
    (left,) = tmp_path.iterdir()
    kept = [tmp_path / "mine", tmp_path / f".writing-{writer.pid}9-abc", tmp_path / f".writing-{os.getpid()}-abc"]
    for folder in kept:
        folder.mkdir()
    assert remove_leftovers(tmp_path, writer.pid) == [left]
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_a_folder_that_is_not_there_has_no_leftovers(tmp_path):
    assert remove_leftovers(tmp_path / "gone", 1) == []
    (tmp_path / "file").touch()
    assert remove_leftovers(tmp_path / "file", 1) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no symbolic links for everybody")
def test_a_link_among_the_leftovers_is_not_followed(tmp_path):
    target = tmp_path / "kept"
    target.mkdir()
    (target / "file").touch()
    (tmp_path / ".writing-7-abc").symlink_to(target)
    remove_leftovers(tmp_path, 7)
    assert (target / "file").exists()


def test_an_interrupted_writer_leaves_nothing(tmp_path):
    # A process in the background of a shell ignores Ctrl-C, and Python with it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), written_atomically(tmp_path / "result") as temporary:
            temporary.write_text("half")
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not list(tmp_path.iterdir())
