"""Ctrl+C and other signals that ask a run to stop."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def stop_requests(told: Callable[[], object] = lambda: None) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl+C, SIGTERM or SIGHUP into a question answered between two steps; a second one stops at once.

    `told` is called for each.
    What is ignored (`nohup`) stays ignored. Signals reach the main thread alone; in another one nothing is requested.
    """
    requested: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number: int, _: Any) -> None:
        signal.signal(number, before[number])
        with suppress(RuntimeError):  # The step was writing to the same stream.
            told()
        requested.append(number)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    before: dict[int, Any] = {number: each for number, each in handlers.items() if each != signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, note)
        yield lambda: bool(requested)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
