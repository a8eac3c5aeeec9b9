"""Tests of an installation without torch: `make test-light` makes one and runs them there, and only there."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = ["test_*.py"] if find_spec("torch") else []
