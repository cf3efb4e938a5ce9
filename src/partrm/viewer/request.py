"""Requests that later ones outdate: what a tab asks for while the user has already moved on."""

import threading
from dataclasses import dataclass


class Generation:
    """Counts the requests of one sort; the newest alone is wanted. Any thread may ask."""

    def __init__(self) -> None:
        self._number = 0
        self._lock = threading.Lock()

    @property
    def number(self) -> int:
        """Of the newest request."""
        return self._number

    @property
    def current(self) -> "Request":
        """The newest request, 0 before the first."""
        return Request(self, self._number)

    def next(self) -> "Request":
        """A request that outdates all before it."""
        with self._lock:
            self._number += 1
            return self.current


@dataclass(frozen=True)
class Request:
    """One request of a generation."""

    generation: Generation
    number: int
    """Counts from 1."""

    @property
    def outdated(self) -> bool:
        """Whether another was made since."""
        return self.number != self.generation.number
