"""Models as graphs that engines run without torch: in their own folder, or as an exported model."""

from galip.export.exporting import write_int8
from galip.export.graphs import write_graphs

__all__ = ["write_graphs", "write_int8"]
