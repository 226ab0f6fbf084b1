"""A worker that files are carried to, without a process: its handlers, and faults on the way to them."""

import json
from pathlib import Path

from SSLFewShotLib.worker import carrying, protocol
from SSLFewShotLib.worker.carried_pieces import unpacked
from SSLFewShotLib.worker.failures import described
from SSLFewShotLib.worker.handler import Context, checked
from SSLFewShotLib.worker.request import WorkerError


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


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
