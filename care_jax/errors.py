"""What a user can put right: one class, caught by every command, which prints its one line and leaves with status 2."""


class UserError(Exception):
    """A mistake, or a circumstance, that the user can put right.

    Its text is one line that says what, where and what to do. Every room derives its own kinds from it; what is none of
    them is a fault of the program's, and keeps its traceback.
    """


def printable(text: str) -> str:
    r"""The text as one line for a terminal: whatever is not printable is escaped, white space becomes single spaces.

    Names of files, folders and classes come from disks that others write to: raw, an escape sequence in one of them
    would be obeyed.

    >>> printable("photos/\x1b[31mred\n.png")
    'photos/\\x1b[31mred .png'
    """
    words = "".join(char if char.isprintable() or char.isspace() else _escaped(char) for char in text).split()
    return " ".join(words)


def wanting_memory(error: BaseException) -> str | None:
    """Whether memory did not suffice, of the host (MemoryError) or of a device (XLA's RESOURCE_EXHAUSTED).

    Returns:
      The first line of what the error says; None for another error.
    """
    text = str(error)
    if not (isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text):
        return None
    return next((line for line in text.splitlines() if line.strip()), type(error).__name__).rstrip(".")


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
