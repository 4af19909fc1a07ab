"""Takes a bundle to a device, runs it there, and says where every megabyte went."""
