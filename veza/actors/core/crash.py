"""What is taken for a crash, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import PurePath
from types import CodeType, TracebackType

from veza.actors.core.views import CrashView

FRAMES = 20  # the innermost ones: enough to find the place, bounded whatever the recursion


def split(error: BaseException) -> tuple[BaseException | None, Exception | None]:
    """(what is not ours to catch, the crash): Cancelled, KeyboardInterrupt and SystemExit are passed on."""
    if not isinstance(error, BaseExceptionGroup):
        return (None, error) if isinstance(error, Exception) else (error, None)
    crash, foreign = error.split(lambda each: isinstance(each, Exception))
    if crash is not None and not isinstance(crash, Exception):
        raise TypeError("a group of exceptions is an exception")  # so says PEP 654; the type checker can't
    return foreign, crash


def only(crash: Exception) -> Exception:
    """The one exception inside groups of one; a group of several stays as it is."""
    while isinstance(crash, ExceptionGroup) and len(crash.exceptions) == 1:
        crash = crash.exceptions[0]
    return crash


def view_of(crash: Exception, at: datetime, message_type: str | None) -> CrashView:
    """The crash without any of its values, so that it can be shown and logged."""
    return CrashView(at, _type_of(crash), tuple(_places(crash))[-FRAMES:], message_type)


def place(code: CodeType, line: int | None) -> str:
    """Where some code stands, told without any of its values: file:line:function."""
    return f"{'/'.join(PurePath(code.co_filename).parts[-3:])}:{line}:{code.co_name}"


def _type_of(crash: Exception) -> str:
    if isinstance(crash, ExceptionGroup):
        return " + ".join(_type_of(each) for each in crash.exceptions)
    return type(crash).__qualname__


def _places(crash: Exception) -> Iterator[str]:
    trace: TracebackType | None = crash.__traceback__
    while trace is not None:
        yield place(trace.tb_frame.f_code, trace.tb_lineno)
        trace = trace.tb_next
    if isinstance(crash, ExceptionGroup):
        for each in crash.exceptions:
            yield from _places(each)
