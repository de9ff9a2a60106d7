"""What data can be to blame for, by the name that everyone catches it by."""

from care_jax.errors import UserError


class DataError(UserError, ValueError):
    """Data that is missing or unusable: one line that says what, where, and what to do."""
