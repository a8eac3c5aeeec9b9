"""Evaluation that says exactly what its numbers are: named protocols, exact counts, intervals, baselines, flags."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from galip import _deprecated

if TYPE_CHECKING:
    from galip.evaluation.evaluation import Evaluation as Evaluation
    from galip.evaluation.protocols import PROTOCOLS as PROTOCOLS
    from galip.evaluation.protocols import Protocol as Protocol
    from galip.evaluation.protocols import get_protocol as get_protocol
    from galip.evaluation.protocols import register as register
    from galip.evaluation.references import References as References
    from galip.evaluation.report.comparison import compare as compare
    from galip.evaluation.report.page import write_report as write_report
    from galip.evaluation.result import Result as Result
    from galip.evaluation.result import read_result as read_result
    from galip.evaluation.runner import evaluate as evaluate

# Imported when they are asked for: the feature networks cost seconds.
_HOMES = {
    "References": "references",
    "Evaluation": "evaluation",
    "evaluate": "runner",
    "compare": "report.comparison",
    "PROTOCOLS": "protocols",
    "Protocol": "protocols",
    "get_protocol": "protocols",
    "register": "protocols",
    "write_report": "report.page",
    "Result": "result",
    "read_result": "result",
}

__all__ = [  # noqa: RUF022 (by subject)
    "evaluate",
    "Evaluation",
    "References",
    "Protocol",
    "PROTOCOLS",
    "get_protocol",
    "register",
    "Result",
    "read_result",
    "compare",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        return _deprecated.renamed(__name__, name)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
