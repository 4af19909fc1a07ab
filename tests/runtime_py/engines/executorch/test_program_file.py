"""What is quiet while executorch works."""

import logging

import pytest

pytest.importorskip("torch")

from torch._logging import trace_structured

from pocketlm.runtime_py.engines.executorch.program_file import quiet_libraries


def test_torch_prepares_no_log_that_nobody_reads() -> None:
    written = []
    logger, handler = logging.getLogger("torch.__trace"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        with quiet_libraries():
            trace_structured("artifact", payload_fn=lambda: written.append("quiet"))
        assert written == []
        assert handler in logger.handlers
        trace_structured("artifact", payload_fn=lambda: written.append("loud"))
        assert written == ["loud"]
    finally:
        logger.removeHandler(handler)
