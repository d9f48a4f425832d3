"""A TCP proxy before PostgreSQL that delays, swallows, resets, and cuts or holds at a named statement."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

UP, DOWN = "up", "down"  # From the client to the server, and back.
READY = [b"Z\x00\x00\x00\x05" + status for status in (b"I", b"T", b"E")]  # Ends every answer.
RESET = struct.pack("ii", 1, 0)


@dataclass
class Trap:
    """Waits for the nth statement with a mark; then cuts its connection, holds all until healed, or tells."""

    mark: bytes
    when: str  # "before" the server sees it, or "after" it was carried out
    nth: int
    action: str  # "cut", "hold" or "watch"
    seen: int = 0
    sprung: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds=20):
        assert self.sprung.wait(seconds), f"no statement {self.mark} within {seconds} s"


class Link:
    """One client's connection, and the proxy's own to the server."""

    def __init__(self, client, server):
        self.writers = {UP: server, DOWN: client}
        self.tail = b""
        self.answer_trap = None
        self.answer = b""

    def abort(self):
        for writer in self.writers.values():
            raw = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()


class Proxy:
    """Listens on `port` and forwards to `server_port`, both of 127.0.0.1, in a thread of its own."""

    def __init__(self, server_port):
        self.server_port = server_port
        self.latency_seconds = 0.0
        self.bytes_per_second = None
        self.links = set()
        self._swallow = set()
        self._traps = []
        self._loop = asyncio.new_event_loop()
        self._open = None  # Cleared while a network is down that loses nothing.
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="chaos-proxy", daemon=True)
        self._thread.start()
        started.wait()

    # Faults. Each lasts until heal().

    def latency(self, seconds):
        self.latency_seconds = seconds

    def bandwidth(self, bytes_per_second):
        self.bytes_per_second = bytes_per_second

    def blackhole(self, *directions):
        """Lose what comes, while the sockets stay up: half-open, both ways by default."""
        self._swallow = set(directions or (UP, DOWN))

    def partition(self):
        """Keep what comes until heal(): a network that is away and retransmits."""
        self._call(self._open.clear)

    def reset(self):
        """Break every connection there is; new ones are served."""
        self._call(lambda: [link.abort() for link in list(self.links)])

    def cut(self, tag, when="before", nth=1):
        return self._set(Trap(mark_of(tag), when, nth, "cut"))

    def hold(self, tag, when="before", nth=1):
        return self._set(Trap(mark_of(tag), when, nth, "hold"))

    def watch(self, tag, nth=1):
        return self._set(Trap(mark_of(tag), "before", nth, "watch"))

    def heal(self):
        """End every fault. What was held goes on; what was swallowed stays lost."""
        self.latency_seconds, self.bytes_per_second = 0.0, None
        self._swallow, self._traps = set(), []
        self._call(self._open.set)

    def stop(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    # The thread.

    def _set(self, trap):
        self._traps.append(trap)
        return trap

    def _call(self, function):
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (function(), done.set()))
        assert done.wait(10)

    def _run(self, started):
        asyncio.set_event_loop(self._loop)
        self._open = asyncio.Event()
        self._open.set()
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        server.close()
        for link in list(self.links):
            link.abort()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _serve(self, reader, writer):
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.server_port)
        except OSError:  # The server is away.
            writer.transport.abort()
            return
        link = Link(writer, up_writer)
        self.links.add(link)
        try:
            await asyncio.wait(
                [
                    asyncio.ensure_future(self._pump(link, UP, reader)),
                    asyncio.ensure_future(self._pump(link, DOWN, up_reader)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            self.links.discard(link)
            link.abort()

    async def _pump(self, link, direction, reader):
        writer = link.writers[direction]
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if self.latency_seconds:
                    await asyncio.sleep(self.latency_seconds)
                if direction in self._swallow:
                    continue
                await self._open.wait()
                data = await (self._watch_up(link, data) if direction == UP else self._watch_down(link, data))
                if data is None:
                    return
                while rate := self.bytes_per_second:
                    writer.write(data[:1])
                    data = data[1:]
                    await asyncio.sleep(1 / rate)
                    if not data:
                        break
                writer.write(data)
                await writer.drain()

    async def _watch_up(self, link, data):
        seen, link.tail = link.tail + data, (link.tail + data)[-64:]
        for trap in list(self._traps):
            # A mark may lie across two reads; one that the last read held whole is not new.
            found = seen.count(trap.mark) - seen[: len(seen) - len(data)].count(trap.mark)
            if not found:
                continue
            trap.seen += found
            if trap.seen < trap.nth or trap.sprung.is_set():
                continue
            self._traps.remove(trap)
            if trap.when == "after":
                link.answer_trap, link.answer = trap, b""
                continue
            return await self._spring(trap, data)
        return data

    async def _watch_down(self, link, data):
        if link.answer_trap is None:
            return data
        link.answer += data
        if not link.answer.endswith(tuple(READY)):
            return b""
        trap, link.answer_trap = link.answer_trap, None
        return await self._spring(trap, link.answer)

    async def _spring(self, trap, data):
        if trap.action == "hold":
            self._open.clear()  # Everything of this proxy stands still.
        trap.sprung.set()
        if trap.action == "cut":
            return None
        if trap.action == "watch":
            return data
        await self._open.wait()
        return data


def mark_of(tag):
    """Return what the bytes of a statement hold: an engine's tag, or SQL given in capitals."""
    return tag.encode() if tag.isupper() else f"/* dbq:{tag} */".encode()


def wait_for_links(proxy, count, seconds=20):
    deadline = time.monotonic() + seconds
    while len(proxy.links) < count:
        assert time.monotonic() < deadline, f"{len(proxy.links)} connections, not {count}"
        time.sleep(0.01)
