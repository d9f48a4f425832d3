"""The example project: its tasks on real code, and the demo as a person runs it."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tokenize
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from django_dbq import Job
from django_dbq.testing import run_jobs
from example import settings as example_settings
from example.census import jobs
from example.census.rank import is_test, package
from example.demo import what_next
from tests.conftest import ROOT, wait_until

STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
TASKS = ["find_modules", "parse_modules", "rank_packages", "write_report"]


@pytest.fixture
def library(tmp_path):
    """A slice of the standard library, with tests and with a file that is no Python."""
    library = tmp_path / "library"
    for name in ("asyncio", "email", "json"):
        shutil.copytree(STANDARD_LIBRARY / name, library / name)
    shutil.copytree(STANDARD_LIBRARY / "unittest", library / "email" / "tests")
    shutil.copy(STANDARD_LIBRARY / "difflib.py", library)
    (library / "broken.py").write_text("def (:\n")
    (library / "nul.py").write_bytes(b"\0")
    (library / "site-packages").mkdir()
    (library / "site-packages" / "other.py").write_text("def not_the_library(): pass\n")
    return library


def count(library):
    """Count by tokens what the job counts by syntax trees."""
    total = {"files": 0, "lines": 0, "functions": 0, "classes": 0, "test_lines": 0, "skipped": 2}
    for path in library.rglob("*.py"):
        name = path.relative_to(library).as_posix()
        if path.name in ("broken.py", "nul.py") or name.startswith("site-packages/"):
            continue
        source = path.read_bytes()
        tokens = tokenize.tokenize(io.BytesIO(source).readline)
        words = [token.string for token in tokens if token.type == tokenize.NAME]
        lines = len(source.splitlines())
        total["files"] += 1
        total["lines"] += lines
        total["functions"] += words.count("def")
        total["classes"] += words.count("class")
        total["test_lines"] += lines if "/tests/" in name else 0
    return total


@pytest.fixture
def census(settings):
    settings.JOBS = example_settings.JOBS
    settings.TEMPLATES = example_settings.TEMPLATES


@pytest.mark.django_db
def test_the_four_tasks_count_real_code_and_write_a_report(census, library, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "PROGRESS_SECONDS", 0)  # Every file saves the job.
    job = Job.objects.create(
        name="stdlib_census", workspace={"folder": str(tmp_path / "out"), "library": str(library)}
    )
    assert job.queue_name == "census"
    assert run_jobs("census") == 1
    job.refresh_from_db()
    assert job.state == Job.STATES.COMPLETE, job.error
    expected = count(library)
    report = Path(job.result["report"])
    assert job.result == {**expected, "report": str(report)}
    assert [row["name"] for row in job.workspace["packages"]] == ["asyncio", "email", "difflib", "json"]
    assert [(run.task.rpartition(".")[2], run.outcome) for run in job.runs.all()] == [
        (task, "done") for task in TASKS
    ]
    assert not list(report.parent.glob("*.new"))
    check_report(report, expected)


def check_report(report, expected):
    """Assert that the report has the numbers, a chart that is well formed, and needs no other file."""
    text = report.read_text()
    for key in ("files", "lines", "functions", "classes"):
        assert f"<dd>{expected[key]:,}</dd>" in text
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    widths = [[bar.get("width") for bar in ET.fromstring(chart).iter("rect")] for chart in charts]
    assert len(charts) == 2 and all(0 <= float(width.rstrip("%")) <= 100 for each in widths for width in each)
    assert not re.search(r"<script|<link|<img|src=|href=|url\(|@import|https?:", text)


@pytest.mark.django_db
def test_names_that_are_html_are_shown_as_text(census, tmp_path):
    folder = tmp_path / "a & <b>"
    folder.mkdir()
    (folder / "it's <i>.py").write_text("def f(): pass\n")
    workspace = {"folder": str(tmp_path / "out"), "library": str(folder)}
    job = Job.objects.create(name="stdlib_census", workspace=workspace)
    run_jobs("census")
    job.refresh_from_db()
    text = Path(job.result["report"]).read_text()
    assert "<i>" not in text and "it&#x27;s &lt;i&gt;" in text and "a &amp; &lt;b&gt;" in text


@pytest.mark.django_db
def test_nothing_to_count_fails_the_job_and_says_where(census, tmp_path):
    job = Job.objects.create(name="stdlib_census", workspace={"library": str(tmp_path)})
    run_jobs("census")
    job.refresh_from_db()
    assert job.state == Job.STATES.FAILED and str(tmp_path) in job.error


def test_a_file_belongs_to_its_first_folder_and_to_tests_by_any():
    assert [package(name) for name in ("difflib.py", "json/decoder.py", "xml/dom/pulldom.py")] == [
        "difflib",
        "json",
        "xml",
    ]
    assert is_test("test/test_json.py") and is_test("idlelib/idle_test/htest.py")
    assert not is_test("unittest/case.py") and not is_test("test.py")


# The demo itself.


@pytest.fixture
def shell(tmp_path):
    """Start commands in a folder where a person could stand: it has manage.py, and no database yet."""
    (tmp_path / "manage.py").symlink_to(ROOT / "manage.py")
    started = []

    def start(command, **env):
        inherited = {
            key: value
            for key, value in os.environ.items()
            if key not in ("DATABASE_URL", "DJANGO_SETTINGS_MODULE")
        }
        process = subprocess.Popen(
            command,
            shell=isinstance(command, str),
            cwd=tmp_path,
            env={**inherited, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def demo(*arguments):
    return [sys.executable, "-m", "example.demo", *map(str, arguments)]


def output(process):
    text, _ = process.communicate(timeout=90)
    return text


def check_success(process, library, report):
    text = output(process)
    assert process.returncode == 0, text
    for task in TASKS:
        assert re.search(rf"^{task}: done, attempt 1, \d+\.\d\d s", text, re.MULTILINE), text
        assert re.search(rf"^Seconds .*{task} \d+\.\d\d", text, re.MULTILINE), text
    assert report.as_uri() in text
    check_report(report, count(library))
    return text


def test_the_demo_on_sqlite_and_what_it_tells_to_type_next(shell, library, tmp_path):
    report = tmp_path / "demo-census" / "report.html"
    process = shell(demo("--library", library), DATABASE_URL="sqlite:///demo.db")
    text = check_success(process, library, report)

    create, depth, work = (line for line in text.splitlines() if "manage.py" in line)
    assert re.fullmatch(r"[0-9a-f-]{36}\n", output(shell(create)))
    assert output(shell(depth)) == "event=queue_depths census=1\n"
    # This one counts the whole standard library.
    process = shell(work)
    text = output(process)
    assert process.returncode == 0 and "Job complete" in text, text
    assert output(shell(depth)) == "event=queue_depths census=0\n"
    assert f"<dd>{len(counted_files(report.parent)):,}</dd>" in report.read_text()


def counted_files(folder):
    """Return the files that the job counted: those it found but the ones that do not parse."""
    found, skipped = (json.loads((folder / name).read_text()) for name in ("modules.json", "skipped.json"))
    return set(found) - set(skipped)


@pytest.mark.postgresql
def test_the_demo_brings_its_own_postgresql(shell, library, tmp_path):
    process = shell(demo("--library", library))
    text = check_success(process, library, tmp_path / "demo-census" / "report.html")
    assert "Starting PostgreSQL" in text


def test_the_demo_that_fails_exits_1_with_the_error_and_the_end_of_the_log(shell, tmp_path):
    (tmp_path / "nothing").mkdir()
    process = shell(demo("--library", "nothing"), DATABASE_URL="sqlite:///demo.db")
    text = output(process)
    assert process.returncode == 1
    assert re.search("The job is FAILED: .*no Python files in", text), text
    assert "find_modules: failed, attempt 1" in text
    assert "worker.log" in text and "Job failed" in text


def test_a_database_that_cannot_be_used_exits_1_and_says_so(shell):
    process = shell(demo(), DATABASE_URL="sqlite:////no/such/folder/demo.db")
    text = output(process)
    assert process.returncode == 1 and "The database of DATABASE_URL cannot be used" in text
    assert "Traceback" not in text


def test_a_demo_that_was_stopped_goes_on_with_its_job(shell, library, tmp_path):
    for number in range(6):
        shutil.copytree(library / "email", library / f"email{number}")
    process = shell(demo("--library", library), DATABASE_URL="sqlite:///demo.db")
    for line in process.stdout:
        if line.startswith("parse_modules: running"):
            break
    process.send_signal(signal.SIGINT)
    text = output(process)
    assert process.returncode == 130 and "goes on with it" in text and "Traceback" not in text
    wait_until(lambda: not workers_in(tmp_path), "the worker is gone")

    text = check_success(
        shell(demo(), DATABASE_URL="sqlite:///demo.db"), library, tmp_path / "demo-census" / "report.html"
    )
    assert "Going on with job" in text and "find_modules: running" not in text


def workers_in(folder):
    """Return the process ids of workers whose working directory is `folder`."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if "worker" in process.cmdline() and Path(process.cwd()) == folder:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_what_it_names_exists(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = what_next("census")
    read, typed = text.split("Type next")
    for path in re.findall(r"^  (\S+)", read, re.MULTILINE):
        assert (ROOT / path).exists(), path
    for line in typed.splitlines():
        if "manage.py" in line:
            words = shlex.split(line)
            assert (ROOT / words[words.index("manage.py") - 1]).exists(), line
    for target in re.findall(r"make (\w+)$", typed, re.MULTILINE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
