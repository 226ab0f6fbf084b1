"""Workers elsewhere: in a mount view of their own, where the client's files are not, and behind a real sshd."""

import contextlib
import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import SSLFewShotLib

LIBRARY = Path(SSLFewShotLib.__file__).parents[1]
WORKER = [sys.executable, "-u", "-m", "SSLFewShotLib.worker"]


def in_another_view(hidden: Path) -> list[str]:
    """The command of a worker that finds an empty disk at `hidden`, in which its own temporary folder lies.

    Skips where this user may not make mount namespaces (Linux, root or user namespaces).
    """
    for flags in (["--mount"], ["--mount", "--map-root-user"]):
        unshare = ["unshare", *flags, "--propagation", "private"]
        mount = f"mount -t tmpfs -o size=2g none {shlex.quote(str(hidden))}"
        with contextlib.suppress(OSError):
            if subprocess.run([*unshare, "sh", "-c", mount], capture_output=True).returncode == 0:
                break
    else:
        pytest.skip("this user may not give a process its own view of the disks (unshare)")
    here = shlex.quote(str(hidden / "of-the-worker"))
    script = f"{mount} && mkdir {here} && cd {here} && export TMPDIR={here} && exec {shlex.join(WORKER)}"
    environment = ["env", f"PYTHONPATH={LIBRARY}", "OMP_NUM_THREADS=1"]
    return [*environment, *unshare, "sh", "-c", script]


@contextlib.contextmanager
def ssh_server(folder: Path) -> Iterator[list[str]]:
    """An sshd of this user on a port of this machine alone, with keys of its own; yields the command that logs in.

    Skips where there is no sshd, or it does not come up.
    """
    sshd = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if sshd is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no OpenSSH server on this machine (sshd)")
    made = None
    if os.geteuid() == 0 and not Path("/run/sshd").exists():  # where a root's sshd locks itself in
        made = Path("/run/sshd")
        made.mkdir(mode=0o755)
    for name in ("host", "user"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(key, check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder / 'host'}\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder / 'user.pub'}\nStrictModes no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    login = ["ssh", "-F", "none", "-i", str(folder / "user"), "-p", str(port), "-o", "BatchMode=yes"]
    login += ["-o", f"UserKnownHostsFile={folder / 'known'}", "-o", "StrictHostKeyChecking=yes"]
    login += ["-o", "IdentitiesOnly=yes", f"{getpass.getuser()}@127.0.0.1"]
    with open(folder / "sshd.log", "wb") as log:
        server = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "config")], stderr=log)
    try:
        until = time.monotonic() + 10
        while (tried := subprocess.run([*login, "true"], capture_output=True)).returncode:
            if server.poll() is not None or time.monotonic() > until:
                said = (folder / "sshd.log").read_text(errors="replace") + tried.stderr.decode(errors="replace")
                pytest.skip(f"sshd takes no logins here: {' '.join(said.split())[-300:]}")
            time.sleep(0.1)
        yield login
    finally:
        server.terminate()
        server.wait(10)
        if made is not None:
            made.rmdir()
