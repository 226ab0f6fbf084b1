"""Progress on a terminal and elsewhere."""

import os

from SSLFewShotLib.cli import console
from SSLFewShotLib.cli.console import ConsoleProgress


class Terminal:
    def __init__(self, interactive: bool):
        self.text, self.interactive = "", interactive

    def isatty(self) -> bool:
        return self.interactive

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...


def test_progress_is_a_bar_on_a_terminal_that_fits_its_width(monkeypatch):
    monkeypatch.setattr(console.shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((60, 20)))
    terminal, now = Terminal(True), iter(range(100))
    progress = ConsoleProgress(terminal, lambda: next(now))
    progress(0.5, "a long message that tells of many things that happen at once")
    progress(0.75, "ending")
    progress.end_line()
    first, second = terminal.text.split("\r\x1b[K")[1:]
    assert first.count("█") == 14 and len(first) == 59
    assert second.count("█") == 21 and second.endswith("\n")


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal():
    terminal, now = Terminal(False), iter([0, 0, 1, 2, 6, 60])
    progress = ConsoleProgress(terminal, lambda: next(now))
    for fraction in (0.0, 0.1, 0.2, 0.5):
        progress(fraction, "working")
    progress(1.0, "done")
    progress.end_line()
    assert terminal.text == "  0% working (0:00)\n 50% working (0:06, 0:06 left)\n100% done (1:00)\n"


def test_where_a_run_was_cancelled_is_not_shown_as_full(monkeypatch):
    terminal, now = Terminal(True), iter([0, 0, 0.01])
    progress = ConsoleProgress(terminal, lambda: next(now))
    progress(0.0, "begins")
    progress(0.5, "stopped here")
    progress.end_line()
    assert terminal.text.split("\r\x1b[K")[-1].count("█") == 14
