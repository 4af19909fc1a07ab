"""A device and how it is reached: links, shells, files both ways, what it is and how warm."""
