"""A command on a device that outlives the connection: its script, its state, how it ended."""
