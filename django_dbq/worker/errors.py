"""Errors of tasks: which of them pass, and what is kept of the others."""

from __future__ import annotations

import signal
import traceback

from django_dbq.engine.workspace import printable

ERROR_CHARS_MAX = 1_000
TRACEBACK_CHARS_MAX = 20_000


def leave_to_the_person(error: BaseException) -> None:
    """Let Ctrl-C through where no worker handles it: in a test that runs jobs itself."""
    if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        raise error


def let_go(error: BaseException) -> None:
    """Free what the frames of an error hold: large values, and on SQLite the lock of a half-read query."""
    seen: set[int] = set()
    errors: list[BaseException | None] = [error]
    while errors:
        each = errors.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            traceback.clear_frames(each.__traceback__)
            errors += [each.__cause__, each.__context__]
            if isinstance(each, BaseExceptionGroup):
                errors += each.exceptions


def line_of(error: BaseException) -> str:
    """Return an error in one line, even one whose `__str__` raises."""
    text = traceback.format_exception_only(error)[-1].strip()
    return printable(text)[:ERROR_CHARS_MAX]


def traceback_of(error: BaseException) -> str:
    """Return an error's traceback, its beginning cut where it is very long."""
    text = printable("".join(traceback.format_exception(error)))
    if len(text) <= TRACEBACK_CHARS_MAX:
        return text
    return f"[{len(text) - TRACEBACK_CHARS_MAX:,} characters cut]\n" + text[-TRACEBACK_CHARS_MAX:]
