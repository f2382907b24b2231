"""Commands keep the memory of one layer for the next."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from threading import Thread
import numpy as np
from lora_analysis.cli.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def layers():
    for _ in range(50):
        [np.ones(300_000, np.float32) for _ in range(6)]  # of 293 pages each

before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread = Thread(target=layers)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_pages_are_taken_once_and_not_for_every_layer():
    if faults("as it comes") < 10_000:
        pytest.skip("this C library keeps freed memory by itself")
    assert faults("kept") < 3_000
