"""Postfix as the other competitor: mode hold (accepts durably and does no more), and mode relay (delivers to a sink)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from tests.blackbox.drive import free_ports


class Postfix:
    name = "postfix"

    def __init__(self, private: ModuleType, mode: str, sink: int = 0) -> None:
        self._private, self._port = private, free_ports(1)[0]
        # Its own throttle for input that outruns deliveries would make the race unfair to it.
        self._base = private.setup(
            port=self._port, mode=mode, sink=sink, tls="ec", auth=True, extra={"in_flow_delay": "0"} if sink else {}
        )
        self.tree: Any = None

    def start(self) -> None:
        self.tree = self._private.start(self._base, self._port)

    def stop(self) -> None:
        if self.tree is not None:
            self._private.stop(self.tree)
            self.tree = None

    def load(self) -> dict[str, Any]:
        return {"p": self._port, "A": "user@load.test:secret"}

    def cpu(self) -> float:
        """Seconds, with the process that checks its passwords."""
        stub = self._private.AUTHD.get("pf")
        return float(self.tree.cpu() + (stub.cpu() if stub else 0))

    def tidy(self) -> None:
        self._private.clear_hold(self._base)

    def memory(self) -> float:
        return 0.0  # all of it is in the tree

    def mails(self) -> tuple[int, int]:
        """(0: it does not count, mails that are owed)."""
        return 0, int(self._private.queued(self._base))
