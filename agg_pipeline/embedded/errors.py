"""The one error of the embedded stack: what failed, on what, and what to do next."""

from pathlib import Path

TAIL_LINES = 15


class EmbeddedError(RuntimeError):
    """The embedded PostgreSQL or PostgREST could not be found, started, reached or stopped."""

    def __init__(self, what: str, *, remedy: str, log: Path | None = None) -> None:
        """Compose the message.

        Args:
            what: what failed and on what (a path, a port, a role); never a secret.
            remedy: what the reader should do next.
            log: server log whose last lines explain more; skipped when it is missing or empty.
        """
        message = f"{what} {remedy}"
        if log is not None and (lines := tail(log)):
            message += f"\nLast lines of {log}:\n{lines}"
        super().__init__(message)


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """Last lines of a log, indented; empty when there is none."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])
