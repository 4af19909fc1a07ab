"""The error that a user of a bundle can cause."""


class RunError(Exception):
    """A bundle, prompt or option that cannot be used; shown without a traceback."""
