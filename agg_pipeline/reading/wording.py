"""Wording of counts in messages."""


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 task``, ``3,000 tasks``. For nouns with a plural in s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
