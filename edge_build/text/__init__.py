"""What turns text into tokens in a checkpoint, read piece by piece; text_files.py joins them."""
