"""The error that a user of the build can cause."""


class BuildError(Exception):
    """A build that was asked for but cannot be made; shown without a traceback."""
