"""Ctrl-C and SIGTERM as an exception, for commands that say on their way out what is done."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal asked the command to stop. Not an Exception, so that no library takes it for a failure of its own."""

    def __init__(self, signum: int):
        self.signal = signal.Signals(signum)
        super().__init__(self.signal.name)

    @property
    def exit_code(self) -> int:
        """As a shell reports a process that the signal ended: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.signal


class StopSignals:
    """What has arrived within ``stop_signals``."""

    def __init__(self) -> None:
        self._arrived: int | None = None

    def arrive(self, signum: int, _frame: FrameType | None = None) -> None:
        """Handler. A second signal of the same kind ends the process at once."""
        self._arrived = signum
        signal.signal(signum, signal.SIG_DFL)
        raise Stopped(signum)

    def check(self) -> None:
        """Raise again what a destructor swallowed: Python ignores exceptions there, a signal's as well."""
        if self._arrived is not None:
            raise Stopped(self._arrived)


@contextlib.contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """SIGINT and SIGTERM raise Stopped. A signal that the parent had ignored, as of a background job, stays ignored."""
    signals = StopSignals()
    before = {signum: signal.getsignal(signum) for signum in _SIGNALS}
    try:
        for signum, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(signum, signals.arrive)
        yield signals
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
