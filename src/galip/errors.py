"""Errors that are meant for the person at the keyboard: they name the file, the value and the remedy."""


class GalipError(Exception):
    """Something the user can put right. The command line prints its message in one line, without a traceback."""


class InputError(GalipError, ValueError):
    """A value that was given cannot be used. It is a `ValueError` too, as Python callers expect."""
