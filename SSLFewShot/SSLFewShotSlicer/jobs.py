"""`Job`: work of several steps that the application's event loop moves on, one short step at a time.

The steps are a generator that yields what it waits for: a request of the worker, or work handed to a thread.
Between two yields it runs in the main thread and may touch nodes; what it waits for never does.
"""

import contextlib
import logging
import threading
import time
from concurrent.futures import Future

from SSLFewShotLib.errors import Cancelled, InputError, OutputError
from SSLFewShotSlicer.translation import _

RUNNING, DONE, FAILED, CANCELLED = "running", "done", "failed", "cancelled"
# Seconds. With the application's views in software, all of its window is drawn anew for a bar that moves.
TELL_EVERY = 0.1


class Job:
    """Work that goes on while the application stays usable.

    state: "running", "done", "failed" or "cancelled"; fraction: 0..1; message: what is being done;
    remaining: seconds or None; result: what the steps returned; error: the exception; sentence: what to tell
    the user about it; warnings: sentences that the result comes with; explain: puts the names of nodes in the
    place of the files that stood for them.
    """

    def __init__(self, title, steps):
        """steps: a function that takes the job and returns the generator of its steps."""
        self.title = title
        self.state = RUNNING
        self.fraction = 0.0
        self.message = ""
        self.remaining = None
        self.result = None
        self.error = None
        self.warnings = []
        self.cancelling = threading.Event()
        self.explain = str
        self._steps = steps(self)
        self._awaited = None
        self._observers = []
        self._changed = True
        self._told = 0.0
        self._part = (0.0, 1.0)

    @property
    def over(self):
        """Whether the job has ended, in whatever way."""
        return self.state != RUNNING

    @property
    def sentence(self):
        """What went wrong, as one sentence; "" when nothing did."""
        return self.explain(explained(self.error)) if self.error is not None else ""

    def observe(self, callback):
        """Call `callback(job)` in the main thread when something about the job has changed, ten times a second."""
        self._observers.append(callback)

    def ignore(self, callback):
        """Stop calling `callback`; a panel that goes away says so."""
        if callback in self._observers:
            self._observers.remove(callback)

    def cancel(self):
        """Ask the job to end; it does so at its next step, and cleans up after itself."""
        if self.over or self.cancelling.is_set():
            return
        self.cancelling.set()
        self.report(self.fraction, _("cancelling"))
        cancel = getattr(self._awaited, "cancel", None)
        if cancel is not None:
            cancel()

    def report(self, fraction, message, remaining=None):
        """Say how far the present part of the job is; `part` says which share of the whole that is."""
        start, end = self._part
        self.fraction = start + (end - start) * min(max(fraction or 0.0, 0.0), 1.0)
        self.message = message
        self.remaining = remaining
        self._changed = True

    def warn(self, sentences):
        """Keep what the worker warned of, each once."""
        for sentence in map(self.explain, sentences):
            if sentence not in self.warnings:
                self.warnings.append(sentence)

    def part(self, start, end):
        """Let the reports that follow fill `start`..`end` of the whole."""
        self._part = (start, end)

    def advance(self):
        """Take the next step if what it waits for is there, then tell the observers.

        Called by the session's timer: the event loop has its turn between two steps.
        """
        if not self.over and (self._awaited is None or self._awaited.done()):
            self._step()
        now = time.monotonic()
        if self._changed and (self.over or now - self._told >= TELL_EVERY):
            self._changed, self._told = False, now
            for observer in list(self._observers):
                _guarded(observer, self)

    def drop(self):
        """End without telling anybody: the scene or the panel that asked is gone. What is waited for is let go."""
        self._observers.clear()
        self.cancel()

    def abandon(self):
        """End at once, cleaning up: the application or the module goes away."""
        self.drop()
        if not self.over:
            self._end(CANCELLED)
            try:
                self._steps.close()
            except Exception:
                logging.debug("SSLFewShot: cleaning up after %s", self.title, exc_info=True)

    def _step(self):
        awaited, self._awaited = self._awaited, None
        try:
            self._awaited = self._resumed(awaited)
        except StopIteration as finished:
            self.result = finished.value
            self._end(DONE)
        except Cancelled:
            self._end(CANCELLED)
        except Exception as error:  # every failure must reach the user as a sentence, whatever it is
            self.error = error
            if not isinstance(error, (InputError, OutputError)):
                logging.debug("SSLFewShot: %s failed", self.title, exc_info=True)
            self._end(FAILED)

    def _resumed(self, awaited):
        """What the steps wait for next, after handing them the outcome of what they waited for."""
        if awaited is None:
            return next(self._steps)
        try:
            outcome = awaited.result(0)
        except Exception as error:
            return self._steps.throw(error)
        if self.cancelling.is_set():
            return self._steps.throw(Cancelled())
        return self._steps.send(outcome)

    def _end(self, state):
        self.state = state
        self.remaining = None
        if state == DONE:
            self.fraction = 1.0
        self._changed = True


def explained(error):
    """An exception as one plain sentence that says what to do."""
    if isinstance(error, (InputError, OutputError)):
        # The text of an OSError would begin with its number.
        return str(getattr(error, "strerror", None) or error)
    message = str(getattr(error, "message", "") or error).strip()
    data = getattr(error, "data", None)
    remedy = data.get("remedy") if isinstance(data, dict) else None
    if remedy and remedy not in message:
        message = f"{message}; {remedy}"
    if isinstance(error, PermissionError):
        return _("{path}: not allowed to read or write here; choose another folder").format(path=error.filename)
    if isinstance(error, MemoryError):
        return _("There is not enough memory for this; close other data or choose a region of interest")
    return message or _("{kind}; the application log has more").format(kind=type(error).__name__)


def event_loop():
    """What steps wait for to let the event loop have its turn."""
    future = Future()
    future.set_result(None)
    return future


def in_turns(work):
    """Steps of a job that take `work`, a generator, on by one part in each turn of the event loop.

    They return what it returns, and close it when the job ends before.
    """
    with contextlib.closing(work):
        while True:
            try:
                next(work)
            except StopIteration as finished:
                return finished.value
            yield event_loop()


def in_thread(function, *arguments):
    """Run a function beside the main thread; it must touch no node and no widget.

    Returns a `Future`, which steps can wait for.
    """
    future = Future()
    future.set_running_or_notify_cancel()  # what has begun cannot be taken back, only waited for

    def work():
        try:
            future.set_result(function(*arguments))
        except BaseException as error:  # handed on to whoever waits
            future.set_exception(error)

    # A daemon: the application may quit without waiting for it.
    threading.Thread(target=work, name="SSLFewShot", daemon=True).start()
    return future


def _guarded(observer, job):
    try:
        observer(job)
    except Exception:
        logging.exception("SSLFewShot: showing the state of %s", job.title)
