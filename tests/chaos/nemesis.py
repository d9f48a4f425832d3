"""A seeded schedule of faults over a group of workers, which it keeps staffed as a service manager would."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress

from tests.chaos.harness import LEASE_SECONDS, freeze

PAUSE_SECONDS = (0.15, 0.6)  # Between two faults.


class Nemesis:
    """Carries out `plan` faults by kind, in an order and at moments that follow from the seed."""

    def __init__(self, chaos, seed, plan, staff):
        self.chaos = chaos
        self.random = random.Random(seed)
        self.faults = [kind for kind, times in sorted(plan.items()) for _ in range(times)]
        self.random.shuffle(self.faults)
        self.staff = staff  # How to start each member: functions that return a Worker.
        self.members = [start() for start in staff]
        self.done = dict.fromkeys(plan, 0)
        self.proxies = []

    def run(self, between):
        """Carry out every fault; call `between` after each."""
        while self.faults:
            time.sleep(self.random.uniform(*PAUSE_SECONDS))
            self.restaff()
            kind = self.faults.pop(0)
            if getattr(self, kind)() is False:
                self.faults.append(kind)  # Nothing to hit just now.
                continue
            self.done[kind] += 1
            between()

    def restaff(self):
        """Start again what has ended, as systemd does with Restart=always."""
        for index, member in enumerate(self.members):
            if not member.alive():
                self.members[index] = self.staff[index]()

    def processes(self):
        """Return the process ids that run jobs now."""
        found = []
        for member in self.members:
            if member.alive():
                found += member.children() if "--processes" in member.args else [member.pid]
        return found

    def _one(self):
        pids = self.processes()
        return self.random.choice(pids) if pids else None

    # Faults.

    def kill(self):
        pid = self._one()
        if pid is None:
            return False
        self.chaos.fault(f"kill -9 {pid}")
        os.kill(pid, signal.SIGKILL)
        return True

    def kill_supervisor(self):
        supervisors = [member for member in self.members if "--processes" in member.args and member.alive()]
        if not supervisors:
            return False
        member = self.random.choice(supervisors)
        self.chaos.fault(f"kill -9 supervisor {member.pid} of {member.children()}")
        member.kill()
        return True

    def freeze(self):
        pid = self._one()
        if pid is None:
            return False
        self.chaos.fault(f"freeze {pid} for longer than a lease")
        with suppress(ProcessLookupError, FileNotFoundError):
            freeze(pid)
            time.sleep(1.3 * LEASE_SECONDS)
            os.kill(pid, signal.SIGCONT)
        return True

    def terminate(self):
        pids = self.chaos.cluster.sessions(self.chaos.name)
        if not pids:
            return False
        if self.random.random() < 0.5:
            pids = self.random.sample(pids, 1)
        self.chaos.fault(f"terminate {len(pids)} backends")
        self.chaos.cluster.terminate(pids)
        return True

    def restart(self):
        mode = self.random.choice(["fast", "immediate"])
        self.chaos.fault(f"restart PostgreSQL, {mode}")
        self.chaos.cluster.restart(mode)
        return True

    def reset(self):
        proxy = self.random.choice(self.proxies)
        self.chaos.fault(f"reset {len(proxy.links)} connections")
        proxy.reset()
        return True

    def cut(self):
        proxy = self.random.choice(self.proxies)
        tag = self.random.choice(["claim", "record", "extend", "rescue", "COMMIT"])
        when = self.random.choice(["before", "after"])
        self.chaos.fault(f"cut {when} {tag}")
        proxy.cut(tag, when)
        return True

    def blackhole(self):
        proxy = self.random.choice(self.proxies)
        directions = self.random.choice([("up",), ("down",), ("up", "down")])
        self.chaos.fault(f"swallow {directions} for a lease")
        proxy.blackhole(*directions)
        time.sleep(LEASE_SECONDS)
        proxy.heal()
        return True
