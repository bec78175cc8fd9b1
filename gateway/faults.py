"""A failing database as an edge of the gateway meets it: our fault, and temporary.

Not here: what the visitor is told (core/errors.py), which steps failed alone (register.py).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from gateway.core.errors import OurFault, PliError, StorageFull
from storage.failures import Failure, Full

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_P = ParamSpec("_P")
_T = TypeVar("_T")


def fault(error: Exception) -> PliError:
    """The error of ours that a failure of the database or its disk, or anything else unforeseen in it, is to a caller."""
    return (StorageFull if is_full(error) else OurFault)(detail=f"{type(error).__name__}: {error}")


def is_full(error: BaseException) -> bool:
    """Whether it says that a disk is full."""
    return isinstance(error, Full) or (isinstance(error, OSError) and error.errno in _FULL)


def ours(work: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """A coroutine function of which a failing database makes OurFault, or StorageFull."""

    @wraps(work)
    async def told(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await work(*args, **kwargs)
        except Failure as error:
            raise fault(error) from error

    return told
