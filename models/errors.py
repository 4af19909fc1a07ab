"""The error that a user of the models package can cause."""


class ModelError(Exception):
    """A checkpoint, config or shape that cannot be used; shown without a traceback."""
