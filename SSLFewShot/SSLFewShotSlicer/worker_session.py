"""`WorkerSession`: the one background process of this application, its jobs, and the timer that moves them on."""

import logging
import os
import shlex
import time
from collections import deque

import qt
import slicer

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.worker.carried_jobs import FILE_METHODS
from SSLFewShotLib.worker.client import WorkerClient
from SSLFewShotLib.worker.protocol import PROTOCOL_VERSION
from SSLFewShotSlicer import compatibility
from SSLFewShotSlicer.jobs import Job, in_thread
from SSLFewShotSlicer.remote_calls import RemoteCalls
from SSLFewShotSlicer.support_files import SupportFiles
from SSLFewShotSlicer.translation import _

TICK_MS = 20
IDLE_TICK_MS = 250
# The application's event loop keeps Python's lock while it idles: threads that read and write get theirs here.
SHARE_FOR_THREADS = 0.002
COMMAND_SETTING = "SSLFewShot/WorkerCommand"
DEVICE_SETTING = "SSLFewShot/Device"


class WorkerSession:
    """Starts the worker when it is first needed, moves jobs on, and ends all of it."""

    def __init__(self):
        self.jobs = []
        self.worker_number = 0
        self._client = None
        self._calls = None
        self._listeners = []
        self._log = deque(maxlen=500)
        self._timer = qt.QTimer()
        self._timer.connect("timeout()", self.tick)
        self.support_files = SupportFiles(self)
        self._ticking = False

    @property
    def running(self):
        """Whether the background process runs."""
        return self._client is not None and self._client.running

    @property
    def pid(self):
        """The number of the background process, or None."""
        return self._client.pid if self._client is not None else None

    @property
    def info(self):
        """What the worker said about itself when it started, or None."""
        return self._client.info if self._client is not None else None

    def run(self, title, steps):
        """Start a job; `steps` is a function that takes the job and returns the generator of its steps."""
        job = Job(title, steps)
        self.jobs.append(job)
        self._timer.start(TICK_MS)
        return job

    def request(self, method, params=None, on_progress=None):
        """Ask the worker; returns what a job's steps can wait for."""
        if self._client is None:
            self._client = self._new_client()
            self._calls = RemoteCalls(self._client) if custom_command() else None
            self.worker_number += 1
        self._timer.start(TICK_MS)
        if self._calls is not None and method in FILE_METHODS:
            return self._calls.request(method, params or {}, on_progress)
        return self._client.request(method, params or {}, on_progress)

    def tick(self, share=SHARE_FOR_THREADS):
        """Hand out what has arrived and move every job on by a step."""
        if self._ticking:
            return  # an observer lets the event loop run, with a dialog for example
        self._ticking = True
        try:
            if self.jobs:
                time.sleep(share)
            if self._client is not None:
                self._client.drain()
            if self._calls is not None:
                self._calls.drain()
            for job in list(self.jobs):
                job.advance()
            self.jobs = [job for job in self.jobs if not job.over]
        finally:
            self._ticking = False
        if not self.jobs and not self.running:
            self._timer.stop()
        elif not self.jobs:
            self._timer.start(IDLE_TICK_MS)

    def wait(self, job, timeout=None):
        """Let the application go on until the job is over; for scripts. Returns the job."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not job.over:
            self.tick(0.01)
            slicer.app.processEvents()
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(
                    _("{title} was not done after {seconds} s").format(title=job.title, seconds=timeout)
                )
        return job

    def listen(self, callback):
        """Call `callback(line)` for every line of the log, those so far included."""
        self._listeners.append(callback)
        for line in self._log:
            callback(line)

    def stop_listening(self, callback):
        """No longer call `callback`."""
        if callback in self._listeners:
            self._listeners.remove(callback)

    def write(self, line):
        """Add a line to the log that the panel shows."""
        self._log.append(line)
        for listener in list(self._listeners):
            try:
                listener(line)
            except Exception:
                logging.exception("SSLFewShot: showing the log")

    def end_worker(self, wait=False):
        """End the background process; the next request starts it anew, with the command as it is set now."""
        client, self._client = self._client, None
        calls, self._calls = self._calls, None
        if calls is not None:
            calls.close()
        if client is None:
            return
        if wait:
            client.close(1.0)
        else:
            in_thread(client.close)  # it may take seconds

    def drop_jobs(self):
        """End all jobs without a word: the scene that they belong to is gone."""
        for job in self.jobs:
            job.drop()

    def close(self):
        """End jobs and background process."""
        self._timer.stop()
        for job in self.jobs:
            job.abandon()
        self.jobs = []
        self.end_worker(wait=True)
        self.support_files.forget()

    def _new_client(self):
        command, environment, directory = worker_command()
        return WorkerClient(
            command,
            environment=environment,
            directory=directory,
            on_log=self.write,
            name="SSLFewShot for 3D Slicer",
        )


def worker_command():
    """The command that starts the worker, changes to the environment, and the directory that it starts in.

    The user's setting, split as a shell would; without one, the application's own Python. The setting belongs to
    the application, never to the scene: a scene from somebody else must not be able to start programs.
    """
    changes = compatibility.worker_environment()
    chosen = custom_command()
    if chosen:
        try:
            return shlex.split(chosen, posix=os.name != "nt"), changes, None
        except ValueError as error:
            raise InputError(
                _("Setup, Command: {command} cannot be understood ({reason}); correct the quotes").format(
                    command=chosen, reason=error
                )
            ) from error
    return (
        [compatibility.worker_python(), "-u", "-m", "SSLFewShotLib.worker"],
        changes,
        str(compatibility.MODULE_FOLDER),
    )


def custom_command():
    """The user's own command that starts the worker, "" for the worker on this computer."""
    return str(slicer.app.userSettings().value(COMMAND_SETTING) or "").strip()


def set_custom_command(command):
    """Keep the command in the application's settings."""
    slicer.app.userSettings().setValue(COMMAND_SETTING, command.strip())


def device():
    """What the user chose to compute with: "auto", "cpu", "cuda:0", …"""
    return str(slicer.app.userSettings().value(DEVICE_SETTING) or "auto")


def set_device(name):
    """Keep the device in the application's settings."""
    slicer.app.userSettings().setValue(DEVICE_SETTING, name)


def initialize_params():
    """What `initialize` is asked with."""
    return {"protocol": PROTOCOL_VERSION, "client": "SSLFewShot for 3D Slicer"}


_shared = None


def shared_session():
    """The session of this application, made when it is first asked for and ended with the application."""
    global _shared
    if _shared is None:
        _shared = WorkerSession()
        slicer.app.connect("aboutToQuit()", close_shared_session)
    return _shared


def close_shared_session():
    """End the session; the next one that asks for it gets a new one."""
    global _shared
    session, _shared = _shared, None
    if session is not None:
        slicer.app.disconnect("aboutToQuit()", close_shared_session)
        session.close()
