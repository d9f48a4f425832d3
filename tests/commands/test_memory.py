"""What a worker's process has loaded, and the garbage collector."""

from __future__ import annotations

import gc
import weakref

from django_dbq.management.memory import loaded_for_good


class Node:
    def __init__(self):
        self.me = self


def test_what_was_loaded_is_collected_again_once_the_block_is_left():
    """A command may be called in a process that goes on."""
    before, kept = gc.get_freeze_count(), Node()
    seen = weakref.ref(kept)
    with loaded_for_good():
        assert gc.get_freeze_count() > before
        del kept
        gc.collect()
        assert seen() is not None
    gc.collect()
    assert gc.get_freeze_count() == 0 and seen() is None


def test_what_is_made_within_the_block_is_collected():
    with loaded_for_good():
        seen = weakref.ref(Node())
        gc.collect()
        assert seen() is None
