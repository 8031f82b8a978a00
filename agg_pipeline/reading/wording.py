"""How counts are said."""


def counted(number: int, noun: str) -> str:
    """``1 task``, ``3 tasks``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
