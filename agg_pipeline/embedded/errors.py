"""The error of this package: what failed, on what, and what to do next."""

from pathlib import Path

TAIL_LINES = 15


class EmbeddedError(RuntimeError):
    """A service on this machine could not be found, started, reached or stopped."""

    def __init__(self, what: str, *, remedy: str, log: Path | None = None) -> None:
        """Compose the message.

        Args:
            what: what failed and on what (a path, a port, a role); never a secret.
            remedy: what the reader should do next.
            log: log whose last lines are added; left out if it is missing or empty.
        """
        message = f"{what} {remedy}"
        if log is not None and (lines := tail(log)):
            message += f"\nLast lines of {log}:\n{lines}"
        super().__init__(message)


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, indented; empty if it is missing."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])
