"""Attempt number -> delay before the next one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is tried again.

    `max_attempts` counts the first attempt too, so 1 means never again; None: without
    end. The delay grows by `backoff` from failure to failure or, where `power` is set,
    with that power of their number. Each failure changes the priority by `priority_step`.
    `on` and `not_on` are exception paths; an empty `on` means any exception.
    """

    max_attempts: int | None = 1
    delay_seconds: float = 1.0
    backoff: float = 2.0
    max_delay_seconds: float = 3600.0
    jitter: bool = True
    on: tuple[str, ...] = ()
    not_on: tuple[str, ...] = ()
    power: float | None = None
    priority_step: int = 0

    def delay(self, failures: int, chance: float) -> float | None:
        """Return the seconds to wait after the `failures`-th failure, or None to give up.

        `chance` in [0, 1) draws from the whole range below the delay ("full jitter",
        Brooker 2015), so that jobs which failed together do not come back together.
        """
        if self.max_attempts is not None and failures >= self.max_attempts:
            return None
        try:
            growth = self.backoff ** (failures - 1) if self.power is None else failures**self.power
            delay = self.delay_seconds * growth
        except OverflowError:
            delay = self.max_delay_seconds if self.delay_seconds else 0.0
        delay = min(self.max_delay_seconds, delay)
        return delay * chance if self.jitter else delay
