"""Brings what simulators tell to the URLs that asked for it: in the background, mishaps on a switch."""

import queue
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import requests


@dataclass
class Mishaps:
    """What may go wrong on the way.

    Attributes:
        lose: the part that is lost, 0 to 1.
        duplicate: how often each is sent.
        hold: keep everything back until `release`.
        reorder: keep everything back, and release it in another order.
    """

    lose: float = 0.0
    duplicate: int = 1
    reorder: bool = False
    hold: bool = False

    def clear(self) -> None:
        """Switch everything off."""
        self.__init__()  # type: ignore[misc]


class Courier[T]:
    """Posts things one after the other, each until it is acknowledged or `retries` are used up.

    Attributes:
        retries: seconds to wait before each further attempt.
        answers: status codes of all deliveries, 0 where nobody answered.
        together: so many things that `fits` finds alike go in one request.
    """

    retries: tuple[float, ...] = (0.2, 0.5)
    timeout: float = 3
    together = 1

    def __init__(self, ca: str, mishaps: Mishaps) -> None:
        self.answers: list[int] = []
        self._mishaps = mishaps
        self._waiting: queue.Queue[T | None] = queue.Queue()
        self._held: list[T] = []
        self._random = random.Random(4711)
        self._session = requests.Session()
        self._session.trust_env, self._session.verify = False, ca
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def request(self, things: Sequence[T]) -> tuple[str, Any, dict[str, str]]:
        """Return URL, JSON and headers of the request that brings these things."""
        raise NotImplementedError

    def fits(self, first: T, other: T) -> bool:  # noqa: ARG002 - for subclasses that send several at once
        """Whether the two may go in one request."""
        return False

    def acknowledged(self, status: int) -> bool:
        """Whether an answer ends the attempts."""
        return status // 100 == 2

    def arrived(self, things: Sequence[T]) -> None:
        """Called when things were acknowledged."""

    def send(self, thing: T) -> None:
        """Send something, unless a mishap happens."""
        if self._random.random() < self._mishaps.lose:
            return
        for _ in range(self._mishaps.duplicate):
            if self._mishaps.hold or self._mishaps.reorder:
                self._held.append(thing)
            else:
                self._waiting.put(thing)

    def send_surely(self, thing: T) -> None:
        """Send something that no mishap happens to."""
        self._waiting.put(thing)

    def release(self) -> None:
        """Deliver what was held back."""
        self._mishaps.hold = False
        held, self._held = self._held, []
        if self._mishaps.reorder:
            self._random.shuffle(held)
        for one in held:
            self._waiting.put(one)

    def forget(self) -> None:
        """Throw away what was held back."""
        self._mishaps.hold = False
        self._held.clear()

    def settle(self, seconds: float = 10) -> None:
        """Return when everything was delivered."""
        deadline = time.monotonic() + seconds
        while self._waiting.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.005)

    def stop(self) -> None:
        """End the delivery."""
        self._waiting.put(None)
        self._thread.join(5)
        self._session.close()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < self.together and not self._waiting.empty():
                following = self._waiting.queue[0]
                if following is None or not self.fits(first, following):
                    break
                batch.append(following)
                self._waiting.get()
            self._post(batch)
            for _ in batch:
                self._waiting.task_done()

    def _post(self, things: Sequence[T]) -> None:
        for pause in (*self.retries, 0):
            url, body, headers = self.request(things)
            try:
                answer = self._session.post(url, json=body, headers=headers, timeout=self.timeout)
                self.answers.append(answer.status_code)
            except requests.RequestException:
                self.answers.append(0)
            if self.acknowledged(self.answers[-1]):
                self.arrived(things)
                return
            time.sleep(pause)
