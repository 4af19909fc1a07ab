"""The folders that are installed as packages, for tests that read their sources."""

PACKAGES = (
    "models",
    "edge_build",
    "runtime_py",
    "device_tests",
    "evaluation",
    "training",
    "advisor",
)
