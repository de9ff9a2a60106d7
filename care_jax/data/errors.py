"""What data can be to blame for, by the name that everyone catches it by."""


class DataError(ValueError):
    """Data that is missing or unusable: one line that says what, where, and what to do."""
