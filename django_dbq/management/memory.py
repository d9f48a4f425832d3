"""What a process has loaded when its work begins."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loaded_for_good() -> Iterator[None]:
    """Take what has been loaded for as long-lived as the block.

    No garbage collection looks through it, nor writes to its pages, which forked processes share as
    long as nobody does.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
