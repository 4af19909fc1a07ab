"""How close an artifact is to its model: a bundle or a checkpoint, measured on a text."""
