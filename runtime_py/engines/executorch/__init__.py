"""ExecuTorch: runs a .pte, reads and writes its parts, and says what memory that takes."""
