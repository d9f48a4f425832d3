"""The wheel and the sdist: whole, truthful, and enough to run a job."""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest

import django_dbq
from tests.conftest import ROOT
from tests.environments import environment, pip, run

LITTER = ("__pycache__", "*.pyc", "*.egg-info", ".*", "build", "dist")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Return a clean copy of what a package is built from, so that no earlier build shows through."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "django_dbq", folder / "django_dbq", ignore=shutil.ignore_patterns(*LITTER))
    return folder


@pytest.fixture(scope="module")
def built(tree, tmp_path_factory):
    """Build the sdist, and the wheel from it; return both paths."""
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, tree])
    [sdist], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def metadata(built):
    with zipfile.ZipFile(built[1]) as wheel:
        [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(wheel.read(name))


def package_files(tree):
    return {path.relative_to(tree).as_posix() for path in (tree / "django_dbq").rglob("*") if path.is_file()}


def test_the_wheel_holds_the_whole_package_and_nothing_else(tree, built):
    with zipfile.ZipFile(built[1]) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == package_files(tree)
    assert "django_dbq/py.typed" in held
    statements = {path.name for path in (ROOT / "django_dbq" / "store" / "sql").iterdir()}
    assert {f"django_dbq/store/sql/{name}" for name in statements} <= held and "claim.sql" in statements


def test_the_sdist_holds_what_a_build_needs(tree, built):
    with tarfile.open(built[0]) as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}
    assert held >= package_files(tree) | {"pyproject.toml", "setup.py", "README.md", "LICENSE"}


def test_the_metadata_tells_the_truth(built, metadata):
    assert metadata["Name"] == "django-db-queue"
    assert metadata["Version"] == django_dbq.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "BSD-2-Clause"
    needed = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert "Django>=5.2" in needed
    assert not [line for line in needed if line.startswith(("psycopg", "mysqlclient"))]
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()
    assert [path.name for path in built] == [
        f"django_db_queue-{django_dbq.__version__}.tar.gz",
        f"django_db_queue-{django_dbq.__version__}-py3-none-any.whl",
    ]


def test_setup_py_tells_old_tools_the_same(tree):
    told = run([sys.executable, "setup.py", "--name", "--version"], cwd=tree)
    assert told.split() == ["django-db-queue", django_dbq.__version__]


def test_requirements_txt_asks_for_what_pyproject_does():
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {*needed} <= {*(ROOT / "requirements.txt").read_text().split()}


SETTINGS = """
SECRET_KEY = "tests-only"
USE_TZ = True
INSTALLED_APPS = ["django_dbq"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "project.sqlite3"}}
JOBS = {"greet": ["project_jobs.say", "project_jobs.shout"]}
"""
TASKS = """
def say(job):
    job.workspace["said"] = "hello " + job.workspace["who"]

def shout(job):
    job.workspace["said"] = job.workspace["said"].upper()
"""


def test_an_installed_wheel_migrates_and_runs_a_job_where_nothing_else_is(built, tmp_path):
    # The environment is kept from run to run; the wheel in it is replaced, what it depends on stays.
    python = environment("empty")
    pip(python, "uninstall", "--yes", "django-db-queue")
    pip(python, "install", built[1])
    pip(python, "check")
    (tmp_path / "project_settings.py").write_text(SETTINGS)
    (tmp_path / "project_jobs.py").write_text(TASKS)

    def manage(*args):
        env = {"DJANGO_SETTINGS_MODULE": "project_settings", "PYTHONPATH": str(tmp_path)}
        return run([python, "-W", "error", "-m", "django", *args], cwd=tmp_path, env=env)

    assert "no issues" in manage("check")
    assert "django_dbq.0001_initial... OK" in manage("migrate")
    created = manage("create_job", "greet", "--workspace", '{"who": "world"}').strip()
    assert manage("queue_depth") == "event=queue_depths default=1\n"
    manage("worker", "--burst")
    script = (
        "import django; django.setup(); import django_dbq; from django_dbq import Job;"
        f"job = Job.objects.get(pk='{created}');"
        "print(job.state, job.workspace['said'], django_dbq.__version__, django_dbq.__file__)"
    )
    env = {"DJANGO_SETTINGS_MODULE": "project_settings", "PYTHONPATH": str(tmp_path)}
    *told, path = run([python, "-c", script], cwd=tmp_path, env=env).split()
    assert told == ["COMPLETE", "HELLO", "WORLD", django_dbq.__version__]
    assert path.startswith(str(python.parent.parent))


def test_the_package_imports_without_django_s_apps_being_ready():
    script = (
        "import django_dbq; print(django_dbq.__version__, sorted(django_dbq.__all__) == django_dbq.__all__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == [django_dbq.__version__, "True"], done.stderr
