"""The tests' settings, on a machine that refuses one process: which, the environment says."""

import errno
import os
from itertools import count

from testsettings import *  # noqa: F403

fork, numbers = os.fork, count(1)


def fork_or_not():
    if next(numbers) == int(os.environ["TEST_REFUSED_FORK"]):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()


os.fork = fork_or_not
