"""The errors and warnings that reach a user as one plain sentence."""


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one line: the file or name, what was expected, and what to do about it.
    """


class OutputError(OSError):
    """A result could not be written (it exists, the disk is full, permission is missing)."""


class Cancelled(Exception):  # noqa: N818 - an outcome that the user asked for, not an error
    """Raised by a `Progress` callable once the user has cancelled."""


class InputWarning(UserWarning):
    """What the user gave was usable, but not as it stood (resampled, skipped, other modality)."""
