"""A process is found and ended with all that it started, and nothing else is touched."""

import os
import signal
import subprocess
import sys

import pytest
from SSLFewShotLib.worker import process_tree
from waiting import is_alive, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX")

SLEEP = "import time; time.sleep(600)"
FAMILY = """
import os, subprocess, sys, time
def child(code, **options):
    return subprocess.Popen([sys.executable, "-c", code], **options).pid
sleep = "import time; time.sleep(600)"
nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sleep!r}])"
print(child(sleep), child(nested), child(sleep, start_new_session=True), flush=True)
time.sleep(600)
"""


@pytest.fixture
def family():
    """A process in its own group; the numbers of: a child, a child with a child, a child in its own session."""
    process = subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, start_new_session=True, encoding="ascii"
    )
    numbers = [int(text) for text in process.stdout.readline().split()]
    nested = numbers[1]
    until(lambda: any(p.parent == nested for p in process_tree.processes().values()))
    yield process, numbers
    for pid in (*numbers, process.pid):
        if (found := process_tree.find(pid)) and not found.ended:
            os.kill(pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_a_tree_ends_with_its_children_and_theirs_but_not_with_a_session_of_its_own(family):
    process, (child, nested, session) = family
    grandchild = next(p.pid for p in process_tree.processes().values() if p.parent == nested)
    killed = process_tree.kill_tree(process.pid)
    assert {process.pid, child, nested, grandchild} <= set(killed)
    assert not any(is_alive(pid) for pid in (process.pid, child, nested, grandchild))
    assert is_alive(session), "a job that is to outlive its parent was ended too"


def test_children_are_found_by_their_group_when_the_launcher_has_gone(family):
    process, (child, nested, session) = family
    launcher = process_tree.find(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert is_alive(child) and process_tree.find(child).parent != process.pid
    process_tree.kill_tree(process.pid, launcher.started, also=[launcher])
    assert not is_alive(child) and not is_alive(nested) and is_alive(session)


def test_a_process_of_another_session_ends_when_it_is_named(family):
    process, (_, _, session) = family
    process_tree.kill_tree(process.pid, also=[process_tree.find(session)])
    assert not is_alive(session)


def test_a_number_that_has_gone_to_another_process_is_left_alone(family):
    process, (child, _, _) = family
    assert process_tree.kill_tree(process.pid, started="1") == []
    before = process_tree.find(child)._replace(started="1")
    assert process_tree.kill_tree(999_999_999, also=[before]) == []
    assert is_alive(process.pid) and is_alive(child)
    assert process_tree.is_running(process_tree.find(child)) and not process_tree.is_running(before)


def test_a_process_that_does_not_exist_is_nothing_to_end():
    assert process_tree.kill_tree(999_999_999) == []
    assert process_tree.find(999_999_999) is None


def test_this_process_does_not_end_itself():
    own = process_tree.find(os.getpid())
    assert own.pid not in {process.pid for process in process_tree.tree(process_tree.find(own.parent))}


def test_a_child_that_has_ended_but_not_been_asked_for_is_not_running():
    process = subprocess.Popen([sys.executable, "-c", ""])
    identity = process_tree.find(process.pid)
    until(lambda: process_tree.find(process.pid).ended)
    assert not process_tree.is_running(identity) and process_tree.kill_tree(process.pid) == []
    process.wait()


def test_a_name_with_brackets_and_spaces_is_read(tmp_path):
    program = tmp_path / "a) 0 0 (b"
    program.symlink_to(sys.executable)
    process = subprocess.Popen([program, "-c", SLEEP])
    try:
        assert process_tree.find(process.pid).parent == os.getpid()
    finally:
        process.kill()
        process.wait()


def test_without_proc_the_same_is_found_by_ps(family, monkeypatch):
    process, (child, nested, session) = family
    here = process_tree.find(child)
    monkeypatch.setattr(process_tree, "_has_proc", lambda: False)
    there = process_tree.find(child)
    assert (there.parent, there.group, there.session, there.ended) == (
        here.parent,
        here.group,
        here.session,
        False,
    )
    assert process_tree.is_running(there)
    process_tree.kill_tree(process.pid, process_tree.find(process.pid).started)
    assert not is_alive(child) and not is_alive(nested) and is_alive(session)


def test_what_is_started_while_the_tree_is_being_ended_ends_too():
    breeding = (
        "import os, time\nfor _ in range(20000):\n    time.sleep(0.001)\n    if os.fork():\n        os._exit(0)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", breeding], start_new_session=True)
    launcher = process_tree.find(process.pid)
    until(lambda: process_tree.find(process.pid).ended)
    process_tree.kill_tree(process.pid, launcher.started, also=[launcher], timeout=10.0)
    process.wait()
    assert not [p for p in process_tree.processes().values() if p.group == process.pid and not p.ended]
