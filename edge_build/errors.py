"""The errors that a user of the build is shown without a traceback."""


class BuildError(Exception):
    """A build that was asked for but cannot be made."""


class InterruptedBuildError(BuildError):
    """A build that its surroundings stopped: a full disk, too little memory. It can continue."""
