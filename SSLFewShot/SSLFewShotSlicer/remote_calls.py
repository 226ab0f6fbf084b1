"""`RemoteCalls`: requests about files to a worker that may be on another machine, made in a thread of their own.

Sending the files takes as long as the network wants, and the application must not wait for it.
"""

import queue
import threading

from SSLFewShotLib.errors import Cancelled
from SSLFewShotLib.worker.carried_jobs import CarriedJobs


class RemoteCall:
    """One such request: what a job's steps wait for. `drain` hands on its news, in the main thread."""

    def __init__(self, calls, method, params, tell):
        self.method = method
        self.params = params
        self.cancelled = threading.Event()
        self._calls = calls
        self._tell = tell
        self._news = None
        self._over = threading.Event()
        self._answer = None
        self._error = None

    def done(self):
        """Whether it has ended, well or not."""
        return self._over.is_set()

    def result(self, timeout=None):
        """The answer; raises what went wrong, or TimeoutError."""
        if not self._over.wait(timeout):
            raise TimeoutError(f"{self.method}: no answer after {timeout} s")
        if self._error is not None:
            raise self._error
        return self._answer

    def cancel(self):
        """Ask for its end."""
        if not self.done():
            self.cancelled.set()
            self._calls.interrupt(self)

    def report(self, fraction, message, remaining):
        """Take what is told of the progress, in the thread of the calls."""
        if self.cancelled.is_set():
            raise Cancelled(self.method)
        self._news = fraction, message, remaining

    def end(self, answer=None, error=None):
        """Take the outcome, in the thread of the calls."""
        self._answer, self._error = answer, error
        self._over.set()

    def drain(self):
        """Hand on the last news, in the main thread."""
        news, self._news = self._news, None
        if news is not None and self._tell is not None:
            self._tell(*news)


class RemoteCalls:
    """Makes requests one after the other; `client` is the WorkerClient."""

    def __init__(self, client):
        self._client = client
        self._waiting = queue.Queue()
        self._open = []
        self._current = None
        self._carried = CarriedJobs(client)
        threading.Thread(target=self._work, name="SSLFewShot files", daemon=True).start()

    def request(self, method, params, tell=None):
        """Make a request; returns at once."""
        call = RemoteCall(self, method, params, tell)
        self._open.append(call)
        self._waiting.put(call)
        return call

    def drain(self):
        """Hand on what was told meanwhile, in the main thread."""
        for call in self._open:
            call.drain()
        self._open = [call for call in self._open if not call.done()]

    def interrupt(self, call):
        """End what a call that was cancelled is waiting for."""
        if self._current is call:
            self._client.cancel_all()

    def close(self):
        """Make no further request."""
        for call in self._open:
            call.cancelled.set()
        self._waiting.put(None)

    def _work(self):
        while True:
            call = self._waiting.get()
            if call is None:
                return
            self._current = call
            try:
                if call.cancelled.is_set():
                    raise Cancelled(call.method)
                if self._carried.needed:
                    answer = self._carried.run(call.method, call.params, call.report)
                else:
                    answer = self._client.request(call.method, call.params, call.report).result()
                call.end(answer)
            except Exception as error:  # handed on to whoever waits
                call.end(error=error)
            finally:
                self._current = None
