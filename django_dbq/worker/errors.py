"""Errors of tasks: which of them pass, and what is kept of the others."""

from __future__ import annotations

import dis
import inspect
import signal
import traceback
from contextlib import suppress
from types import FrameType

from django_dbq.engine.workspace import printable

ERROR_CHARS_MAX = 1_000
TRACEBACK_CHARS_MAX = 20_000


def leave_to_the_person(error: BaseException) -> None:
    """Let Ctrl-C through where no worker handles it: in a test that runs jobs itself."""
    if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        raise error


def let_go(error: BaseException) -> None:
    """Free what the frames of an error hold: large values, and on SQLite the lock of a half-read query.

    Where a generator is closed by it that stands within a transaction, this ends the connection's
    present one: it is for a thread that has none open.
    """
    seen: set[int] = set()
    errors: list[BaseException | None] = [error]
    while errors:
        each = errors.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        for frame, _ in traceback.walk_tb(each.__traceback__):
            if not _goes_on(frame):
                with suppress(RuntimeError):  # It runs.
                    frame.clear()
        errors += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            errors += each.exceptions


def _goes_on(frame: FrameType) -> bool:
    """Tell whether this is a generator or coroutine that waits; before Python 3.13 `clear` would close it."""
    code = frame.f_code
    waits = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
    return bool(code.co_flags & waits) and dis.opname[code.co_code[frame.f_lasti]] == "YIELD_VALUE"


def line_of(error: BaseException) -> str:
    """Return an error in one line, even one whose `__str__` raises."""
    found = traceback.TracebackException(type(error), error, None, compact=True)
    found.__notes__ = None  # Which come after the line.
    text = list(found.format_exception_only())[-1].strip()
    return printable(text)[:ERROR_CHARS_MAX]


def traceback_of(error: BaseException) -> str:
    """Return an error's traceback, its beginning cut where it is very long."""
    return _end(printable("".join(traceback.format_exception(error))), TRACEBACK_CHARS_MAX)


def stack_of(frame: FrameType) -> str:
    """Return where a thread stands, its beginning cut where it is very long: a traceback has room for it."""
    return _end(printable("".join(traceback.format_stack(frame))), TRACEBACK_CHARS_MAX // 2)


def _end(text: str, length: int) -> str:
    return text if len(text) <= length else f"[{len(text) - length:,} characters cut]\n" + text[-length:]
