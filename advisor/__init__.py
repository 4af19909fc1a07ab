"""Which quantization to take: candidates are built, measured beside their checkpoint, compared."""
