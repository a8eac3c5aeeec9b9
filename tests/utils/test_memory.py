"""The most memory that a process has held."""

from __future__ import annotations

import subprocess
import sys

from galip.utils.memory import peak_bytes


def test_the_peak_counts_what_was_held_and_is_no_other_process_s() -> None:
    held = b"x" * 300_000_000  # by this process: a child must not count it
    before = peak_bytes()
    assert before > len(held)
    code = (
        "from galip.utils.memory import peak_bytes\n"
        "before = peak_bytes()\n"
        "held = b'x' * 100_000_000\n"
        "del held\n"
        "print(before, peak_bytes())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    first, second = map(int, told.split())
    assert 1_000_000 < first < 100_000_000
    assert 90_000_000 < second - first < 120_000_000
