"""Strikes a thread at a point of its code, as a time limit or the user's interrupt does.

CPython looks for them when a function begins, when a call returns, and when a loop begins anew.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_BEGIN = dis.opmap["RESUME"]
_LOOKS = {_BEGIN, *(dis.opmap[name] for name in ("CALL", "CALL_FUNCTION_EX", "JUMP_BACKWARD"))}


class Striker:
    """A tracer that calls ``strike`` once, at the point of this number; ``has_struck`` says whether there was one."""

    def __init__(self, number: int, strike: Callable[[], object]) -> None:
        self.has_struck = False
        self._left, self._strike = number, strike
        self._before: tuple[FrameType, int] | None = None

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Striker:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event != "opcode":
            self._before = (frame, _BEGIN) if event == "call" else None
            return self
        before, self._before = self._before, (frame, frame.f_code.co_code[frame.f_lasti])
        if before is not None and before[0] is frame and before[1] in _LOOKS:
            self._left -= 1
            if not self._left:
                sys.settrace(None)
                self.has_struck = True
                self._strike()
        return self


@contextmanager
def tracing(striker: Striker) -> Iterator[None]:
    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # by which CPython 3.12 knows that somebody wants them
    sys.settrace(striker)
    try:
        yield
    finally:
        sys.settrace(before)
