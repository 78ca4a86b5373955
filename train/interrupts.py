"""Ctrl-C and SIGTERM: a command stops at a point from which it can be continued, and says how."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Lets SIGTERM, which schedulers and `timeout` send, end a command as Ctrl-C does: files and workers are closed."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    with _handled((signal.SIGTERM,), interrupt):
        yield


@contextmanager
def continued_by(advice: Callable[[], str]) -> Iterator[None]:
    """Adds to an interrupt inside how to continue, which the command line prints.

    Args:
        advice: returns a sentence; asked for only when there is an interrupt.
    """
    try:
        yield
    except KeyboardInterrupt as signalled:
        signalled.add_note(advice())
        raise


class Stop:
    """Notes the first SIGINT or SIGTERM, for a loop that ends by itself where its state is whole; a second interrupts.

    Attributes:
        number: the signal that came; None while none has.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Notes signals inside."""

        def note(number: int, _: FrameType | None) -> None:
            if self.number is not None:
                raise KeyboardInterrupt(number)
            self.number = number

        with _handled((signal.SIGINT, signal.SIGTERM), note):
            yield


@contextmanager
def _handled(numbers: tuple[signal.Signals, ...], handler: Handler) -> Iterator[None]:
    """Handles signals inside; not at all outside of the main thread, where Python sets no handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [(number, signal.signal(number, handler)) for number in numbers]
    try:
        yield
    finally:
        for number, former in before:
            signal.signal(number, former)
