"""The word that this process was asked to stop, heard while requests still wait."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.supervisor import tell_when_parent_dies

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def noticed(leaving: threading.Event) -> Iterator[None]:
    """Set `leaving` when a signal to stop comes, before whoever handled it does. Outside the main thread: nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def heard(number: int, frame: object) -> None:
        leaving.set()
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)  # type: ignore[arg-type]  # a frame, as it came
        elif handler == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in SIGNALS:
        signal.signal(number, heard)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is heard:
                signal.signal(number, handler)


def leave_with_parent() -> None:
    """Be asked to stop when the process that started this one to serve beside others is killed."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    tell_when_parent_dies(signal.SIGTERM)
    if os.getppid() != parent.pid:
        signal.raise_signal(signal.SIGTERM)
