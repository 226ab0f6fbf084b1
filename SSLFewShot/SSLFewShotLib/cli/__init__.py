"""The command `sslfewshot`.

Exit codes: 0 done, 1 failed, 2 wrong use or input, 130 cancelled.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence

from SSLFewShotLib.cli import commands
from SSLFewShotLib.cli.arguments import build_parser
from SSLFewShotLib.cli.console import ConsoleProgress, accept_any_letter, print_result, show_warnings_on
from SSLFewShotLib.errors import Cancelled, InputError, OutputError

DONE, FAILED, WRONG_INPUT, CANCELLED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    accept_any_letter()
    arguments = build_parser().parse_args(argv)
    progress = ConsoleProgress()
    show_warnings_on(progress)
    if hasattr(signal, "SIGTERM") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result, text = getattr(commands, arguments.command)(arguments, progress)
        progress.end_line()
        print_result(result, arguments.json, text)
        return WRONG_INPUT if _left_out(result) else DONE
    except (Cancelled, KeyboardInterrupt):
        return _ended(progress, "cancelled", CANCELLED)
    except (InputError, OutputError) as error:
        _trace(arguments.traceback)
        return _ended(progress, f"error: {_message(error)}", WRONG_INPUT)
    except BrokenPipeError:
        # Who read the result has gone: the flush at exit must not fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        _trace(arguments.traceback)
        hint = "" if arguments.traceback else " (sslfewshot --traceback … shows where)"
        return _ended(progress, f"failed: {type(error).__name__}: {_message(error)}{hint}", FAILED)


def _left_out(result: object) -> bool:
    """Whether some, but not all, of what was asked for could be done."""
    return isinstance(result, dict) and any("error" in target for target in result.get("targets", []))


def _message(error: Exception) -> str:
    text = error.strerror if isinstance(error, OutputError) and error.strerror else str(error)
    return " ".join(text.split())


def _trace(wanted: bool) -> None:
    if wanted:
        traceback.print_exc()


def _ended(progress: ConsoleProgress, message: str, code: int) -> int:
    progress.end_line()
    print(f"sslfewshot: {message}", file=sys.stderr)
    return code
