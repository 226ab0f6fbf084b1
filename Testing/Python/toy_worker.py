"""A worker that obeys at once or misbehaves as it is told: what the client is tested against.

    python toy_worker.py BEHAVIOUR [ARGUMENT]

Run as a program; pure standard library, one thread but for `work`, which computes beside the reading.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

OUT = os.fdopen(os.dup(1), "wb")
LOCK = threading.Lock()


def say(**message) -> None:
    with LOCK:
        OUT.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        OUT.flush()


def hello() -> None:
    say(method="hello", params={"pid": os.getpid(), "versions": {}, "python": sys.version})


def information(**changes) -> dict:
    return {"protocol": 1, "pid": os.getpid(), "shares_disk": True, **changes}


class Toy:
    """echo returns its params; hang computes without hearing; die ends by a signal or exit code; …"""

    def __init__(self, changes: dict):
        self.changes = changes
        self.jobs = queue.Queue()
        self.cancelled = set()
        self.busy = None
        self.supports = {}
        threading.Thread(target=self.compute, daemon=True).start()

    def serve(self) -> None:
        hello()
        for line in sys.stdin.buffer:
            message = json.loads(line)
            method, params = message["method"], message.get("params", {})
            if method == "$/cancelRequest":
                self.cancelled.add(params["id"])
            elif method == "initialize":
                if "probe" in params:
                    found = Path(params["probe"]["path"]).read_text() == params["probe"]["content"]
                    self.changes.setdefault("shares_disk", found)
                say(id=message["id"], result=information(**self.changes, client=params["client"]))
            elif method == "shutdown":
                say(id=message["id"], result=None)
                return
            elif method.startswith("light/"):
                say(id=message["id"], result=params)
            else:
                if self.busy is not None:
                    text = "waiting for another job"
                    say(method="progress", params={"id": message["id"], "fraction": 0.0, "message": text})
                self.jobs.put(message)
                self.busy = message["id"]

    def compute(self) -> None:
        while True:
            message = self.jobs.get()
            number, params = message["id"], message.get("params", {})
            if number in self.cancelled:
                say(id=number, error={"code": -32800, "message": "cancelled"})
            else:
                getattr(self, message["method"].replace("/", "_"), self.unknown)(number, params)
            if self.jobs.empty():
                self.busy = None

    def unknown(self, number, params) -> None:
        say(id=number, error={"code": -32601, "message": "no such method", "data": {"type": "KeyError"}})

    def echo(self, number, params) -> None:
        say(id=number, result={**params, "worker": os.getpid()})

    def environment(self, number, params) -> None:
        say(id=number, result={**os.environ, "directory": os.getcwd(), "session": str(os.getsid(0))})

    def refuse(self, number, params) -> None:
        say(id=number, error={"code": -32001, "message": "x.nrrd: does not exist", "data": {"type": "InputError"}})

    def steps(self, number, params) -> None:
        """Report so many steps, so many seconds each, and stop when cancelled."""
        for step in range(params["steps"]):
            report = {"id": number, "fraction": step / params["steps"], "message": f"step {step}"}
            say(method="progress", params={**report, "elapsed": float(step), "remaining": None})
            time.sleep(params["seconds"])
            if number in self.cancelled:
                say(id=number, error={"code": -32800, "message": "cancelled"})
                return
        say(id=number, result=params)

    def hang(self, number, params) -> None:
        """Never answer, and start something that does not either; leave a file half-written."""
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        if "output" in params:
            begun = Path(params["output"]) / f".writing-{os.getpid()}-abc"
            begun.mkdir(parents=True)
            (begun / "half").write_text("h")
        report = {"id": number, "fraction": 0.5, "message": f"child {child.pid}"}
        say(method="progress", params=report)
        time.sleep(600)

    def die(self, number, params) -> None:
        if params.get("once") and Path(params["once"]).exists():
            self.echo(number, params)
            return
        if params.get("once"):
            Path(params["once"]).touch()
        say(method="progress", params={"id": number, "fraction": 0.1, "message": "about to die"})
        print("something is wrong here", file=sys.stderr, flush=True)
        if "wait" in params:
            time.sleep(params["wait"])
        if "signal" in params:
            os.kill(os.getpid(), getattr(signal, params["signal"]))
            time.sleep(10)
        os._exit(params.get("exit_code", 1))

    def chatter(self, number, params) -> None:
        for line in range(params["lines"]):
            print(f"line {line}", file=sys.stderr, flush=True)
        say(method="log", params={"level": "warning", "message": "beware"})
        say(id=number, result=None)

    def rubbish(self, number, params) -> None:
        with LOCK:
            OUT.write(b'\x00\xff not JSON {\n[1, 2]\n{"jsonrpc": "2.0", "id": 99999, "result": 1}\n\n')
            OUT.write(b'{"jsonrpc": "2.0", "method": "progress", "params": {"id": [1], "fraction": "half"}}\n')
            OUT.write(b'{"jsonrpc": "2.0", "method": "unheard-of"}\n{"jsonrpc": "1.0"}\n')
            OUT.flush()
        say(id=number, result="still there")

    def support_set(self, number, params) -> None:
        content = Path(params["supports"][0]["image"]).read_text()
        if content == "deadly":
            os._exit(9)
        time.sleep(params.get("seconds", 0))
        self.supports[content] = params
        say(id=number, result={"support": content, "segments": [], "cases": 1})

    def segment(self, number, params) -> None:
        if params["support"] in self.supports:
            say(id=number, result={"support": params["support"], "worker": os.getpid()})
        else:
            say(id=number, error={"code": -32001, "message": "this support is not known"})


def main() -> None:
    behaviour, *arguments = sys.argv[1:]
    if behaviour == "launcher":
        # As PythonSlicer does: start the real one, hand it the pipes, and wait for it (and longer, if told so).
        done = subprocess.run([sys.executable, __file__, "obey"], check=False)
        time.sleep(float(arguments[0]) if arguments else 0)
        sys.exit(128 - done.returncode if done.returncode < 0 else done.returncode)
    if behaviour == "silent":
        time.sleep(600)
    if behaviour == "greets-only":
        hello()
        time.sleep(600)
    if behaviour == "exits":
        print("libcuda.so.1 is missing", file=sys.stderr, flush=True)
        sys.exit(int(arguments[0]))
    if behaviour == "banner":
        print("Welcome to gpu.example.org!\nLast login: yesterday", flush=True)
    if behaviour == "deaf":
        hello()
        sys.stdin.buffer.readline()
        say(id=0, result=information())
        time.sleep(600)
    Toy(json.loads(arguments[0]) if arguments and behaviour == "obey" else {}).serve()


if __name__ == "__main__":
    main()
