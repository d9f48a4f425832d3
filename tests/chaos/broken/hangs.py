"""Never ends its import where CHAOS_HANG is set."""

import os
import time

while os.environ.get("CHAOS_HANG"):
    time.sleep(0.01)


def task():
    """Only to be called."""
