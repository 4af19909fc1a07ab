"""The small C and C++ programs that go on a device, and how they are compiled."""
