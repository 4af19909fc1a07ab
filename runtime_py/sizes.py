"""Sizes in bytes as people read them."""

MINUS = "−"  # as wide as a plus, unlike a hyphen


def size_text(size_bytes: float) -> str:
    """Return a size in decimal units with three digits or more: "1.04 GB", "87.3 MB", "12 kB"."""
    sign, size = (MINUS if size_bytes < 0 else ""), abs(size_bytes)
    for limit, unit, name, decimals in (
        (999_500_000, 1e9, "GB", 2),
        (99_950_000, 1e6, "MB", 0),
        (999_500, 1e6, "MB", 1),
        (99_950, 1e3, "kB", 0),
        (999.5, 1e3, "kB", 1),
    ):
        if size >= limit:
            return f"{sign}{size / unit:,.{decimals}f} {name}"
    return f"{sign}{size:.0f} B"
