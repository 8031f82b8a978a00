"""Failures of reading bars: of a row, which is rejected alone, and of a file."""


class BadRowError(ValueError):
    """The row is not a valid bar.

    Attributes:
        cause: what is wrong without the values of the row, so that rows can be grouped by it.
        reason: the same with the values; it is also the message.
    """

    def __init__(self, cause: str, reason: str | None = None):
        self.cause, self.reason = cause, reason or cause
        super().__init__(self.reason)


class UnreadableError(Exception):
    """What a file is read with cannot go on; BarFile makes it a BarFileError that names the file."""

    def __init__(self, what: str, remedy: str):
        self.what, self.remedy = what, remedy
        super().__init__(what)


class BarFileError(ValueError):
    """A file cannot be read. The message is one line: the file, what is wrong, and what to do."""


def short(value: object, most: int = 60) -> str:
    """A value for a message: quoted, on one line, and cut to ``most`` characters."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


def shown_path(path: object) -> str:
    """A path for a message: as it is if it can be printed on one line, else quoted."""
    text = str(path)
    return text if text.isprintable() else repr(text)
