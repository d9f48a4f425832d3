"""What import-linter cannot see of the layers."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "django_dbq"
SOURCES = {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}
OUTSIDE = [name for name in SOURCES if not name.startswith(("store/", "migrations/"))]

# They speak with the server about the connection, not about jobs.
ABOUT_CONNECTIONS = {"worker/connections.py", "worker/listener.py"}


def test_statements_stand_in_the_store():
    sending = {
        name for name in OUTSIDE if re.search(r"(?<!super\(\))\.(cursor|execute|raw)\(", SOURCES[name])
    }
    assert sending == ABOUT_CONNECTIONS


def test_nothing_but_the_store_updates_rows():
    updating = r"\b(objects|jobs|runs|filter\(.*\))\.(update|bulk_update|_raw_delete)\("
    assert not [name for name in OUTSIDE if re.search(updating, SOURCES[name])]


def test_no_package_has_an_sql_file_that_nobody_runs():
    verbs = {path.stem for path in (PACKAGE / "store/sql").glob("*.sql")}
    run = set(
        re.findall(
            r'(?:self\._(?:run|pairs|rows|table|claimed)|_text)\("(\w+)"', SOURCES["store/postgres.py"]
        )
    )
    assert run == verbs


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_no_module_does_work_when_it_is_imported(name):
    allowed = {"cache", "lru_cache", "receiver", "register"}
    for node in ast.parse(SOURCES[name]).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            assert ast.unparse(node.value.func) in {*allowed, "setting_changed.connect"}, ast.unparse(node)


def test_every_module_imports_without_settings_being_read():
    """Models need the apps, so they are set up; JOBS and DBQ of the wrong type must not matter to that."""
    code = (
        "import django, pkgutil, importlib\n"
        "from django.conf import settings\n"
        "settings.configure(JOBS=5, DBQ=5, INSTALLED_APPS=['django_dbq'], DATABASES={}, SECRET_KEY='x')\n"
        "django.setup()\n"
        "import django_dbq\n"
        "for module in pkgutil.walk_packages(django_dbq.__path__, 'django_dbq.'):\n"
        "    importlib.import_module(module.name)\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
