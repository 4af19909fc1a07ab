"""The error of this package that a user can act on."""


class DeviceError(Exception):
    """Something about a device, a connection to one, or what runs there, with what to do."""
