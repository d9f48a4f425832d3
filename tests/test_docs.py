"""The words hold: every snippet runs, every link leads somewhere, every reference table is complete."""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import django
import pytest
from django.core.management import find_commands, load_command_class
from django.core.management.base import BaseCommand

import django_dbq
from django_dbq import conf
from django_dbq.engine.lifecycle import State
from django_dbq.engine.workflow import parse

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted(DOCS.rglob("*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUNNABLE = {"python", "bash"}
SHOWN_ONLY = {"ini", "procfile", "cron", "sql", "yaml"}  # Other programs read these.
SECONDS_MAX = 60


def blocks(page):
    """Return the fenced blocks of a page as pairs of language and text."""
    return FENCE.findall(page.read_text())


def title(page):
    return str(page.relative_to(ROOT))


def rows(page, heading):
    """Return the table under a heading: the cells of each row, without the two head lines."""
    text = (DOCS / "reference" / page).read_text()
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"{page} has no heading {heading!r}"
    lines = [line for line in section[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def names(page, heading):
    """Return the first column of the table under a heading, sorted, without its backquotes."""
    return sorted(row[0].strip("`") for row in rows(page, heading))


# Snippets. A page is a script: its blocks run from top to bottom in one new project on SQLite.
#
#   python, first line "# settings.py"     is added to the project's settings
#   python, first line "# some/file.py"    is written to that file
#   python                                 runs as if typed into `manage.py shell`
#   bash                                   runs in the project; `make` lines are only looked up,
#                                          `curl` asks the project itself, whatever the port
#   text, right after bash                 is what the bash block prints


class Project:
    """A throw-away Django project with one empty app, `shop`."""

    def __init__(self, folder):
        self.folder = folder
        self.output = ""
        theirs = ("DATABASE_", "DJANGO_", "TEST_")  # What the tests' own settings read.
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(theirs)}
        self.env |= {
            # `curl` is ours: it asks the project without a server.
            "PATH": os.pathsep.join(
                [str(ROOT / "tests/bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
            ),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def shell(self, *args, text=None):
        done = subprocess.run(
            args,
            cwd=self.folder,
            env=self.env,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, f"{text or args}\nexited {done.returncode} and said:\n{done.stdout}"
        return done.stdout

    def run(self, language, text):
        if language == "python":
            self.python(text)
        elif language == "bash":
            self.output = self.bash(text)
        elif language == "text":
            for line in text.splitlines():
                assert line in self.output, f"{line!r} is not in what was printed:\n{self.output}"

    def python(self, text):
        if django.VERSION < (6, 0):  # The package django-tasks has the same names.
            text = text.replace("from django.tasks import", "from django_tasks import")
        named = re.match(r"# (\S+\.py)$", text.splitlines()[0])
        if named is None:
            self.shell(sys.executable, "-c", f"import django\ndjango.setup()\n{text}")
        elif named[1] == "settings.py":
            with (self.folder / "project/settings.py").open("a") as file:
                file.write(text)
        else:
            (self.folder / named[1]).write_text(text)

    def bash(self, text):
        lines = [line for line in text.splitlines() if not line.startswith("make ")]
        for line in set(text.splitlines()) - set(lines):
            target = line.split()[1]
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
        return self.shell("bash", "-euo", "pipefail", text="\n".join(lines)) if lines else ""


@pytest.fixture(scope="session")
def blank_project(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("blank"))
    project.shell(sys.executable, "-m", "django", "startproject", "project", ".")
    project.shell(sys.executable, "-m", "django", "startapp", "shop")
    project.shell(sys.executable, "manage.py", "migrate", "--verbosity", "0")
    return project


@pytest.fixture
def project(blank_project, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(blank_project.folder, folder)
    return Project(folder)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if RUNNABLE & {kind for kind, _ in blocks(page)}], ids=title
)
def test_every_snippet_of_the_page_runs_in_a_new_project(page, project):
    if page.name != "README.md" and page.name != "start.md":
        # The other pages suppose that the reader has been through the start.
        project.python('# settings.py\nINSTALLED_APPS += ["django_dbq", "shop"]\n')
        if django.VERSION < (6, 0):
            project.python('# settings.py\nINSTALLED_APPS += ["django_tasks"]\n')
        project.shell(sys.executable, "manage.py", "migrate", "--verbosity", "0")
    for language, text in blocks(page):
        project.run(language, text)


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_every_block_says_what_it_is(page):
    for language, text in blocks(page):
        assert language in RUNNABLE | SHOWN_ONLY | {"text"}, f"{language!r}: {text}"


def test_the_readme_has_at_most_200_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("page", sorted((DOCS / "adr").glob("*.md")), ids=title)
def test_a_decision_has_at_most_60_lines_and_four_parts(page):
    text = page.read_text()
    assert len(text.splitlines()) <= 60
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Choice", "Consequence", "How tested"]


def test_the_architecture_page_names_every_decision():
    page = (DOCS / "architecture.md").read_text()
    assert [path.name for path in (DOCS / "adr").glob("*.md") if f"(adr/{path.name})" not in page] == []


# Links.


def anchors(page):
    """Return the anchors that a page's headings make."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{title(page)} links to {target}"
        assert not anchor or anchor in anchors(file), f"{title(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_every_test_that_a_page_names_exists(page):
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text()):
        assert f"def {name}(" in (ROOT / path).read_text(), f"{title(page)} names {path}::{name}"


def test_the_changelog_begins_with_the_version_of_the_package():
    found = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert found[0] == django_dbq.__version__


def test_the_readme_gives_a_reason_for_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needs = [
        *project["project"]["dependencies"],
        *(need for extra in project["project"]["optional-dependencies"].values() for need in extra),
        *(need for group in project["dependency-groups"].values() for need in group),
    ]
    section = (ROOT / "README.md").read_text().partition("## Dependencies")[2].partition("\n## ")[0]
    for need in needs:
        package = re.match(r"[\w-]+", need)[0]
        assert f"`{package}`" in section, f"README, Dependencies: no line on {package}"


# Reference.


def test_the_reference_lists_every_option_of_dbq_with_its_default():
    listed = [(row[0].strip("`"), ast.literal_eval(row[1].strip("`"))) for row in rows("settings.md", "DBQ")]
    assert listed == [(field.name, field.default) for field in dataclasses.fields(conf.Options)]


def test_the_reference_gives_the_least_value_of_every_option_of_dbq():
    for name, _, least, _ in rows("settings.md", "DBQ"):
        name = name.strip("`")
        if least == "none":
            continue
        least = ast.literal_eval(least.strip("`"))
        assert conf.parse_options({name: least})[1] == []
        assert conf.parse_options({name: least - type(least)(1)})[1] != []


def accepted(entry):
    """Return the keys that the parser names when it is given one that it does not know."""
    _, problems = parse("job", entry)
    message = next(problem.message for problem in problems if problem.kind == "unknown")
    return message.partition("Known: ")[2].rstrip(".").split(", ")


def test_the_reference_lists_every_option_of_a_job():
    assert names("jobs.md", "Options of a job") == accepted({"tasks": ["a.b"], "0": 0})


def test_the_reference_lists_every_option_of_a_task():
    assert names("jobs.md", "Options of a task") == accepted({"tasks": [{"task": "a.b", "0": 0}]})


def test_the_reference_lists_every_option_of_a_retry_policy():
    assert names("jobs.md", "Options of retry") == accepted({"tasks": ["a.b"], "retry": {"0": 0}})


def test_the_reference_lists_every_option_of_a_schedule():
    found = accepted({"tasks": ["a.b"], "schedule": {"cron": "@daily", "0": 0}})
    assert names("jobs.md", "Options of schedule") == found


def test_the_reference_lists_every_check():
    checking = ("checks.py", "compat/django_q_settings.py")
    source = "".join((ROOT / "django_dbq" / name).read_text() for name in checking)
    ids = sorted(set(re.findall(r"dbq\.[EWI]\d+", source)))
    assert names("checks.md", "Ids") == ids


def test_the_reference_lists_every_public_name():
    assert names("python.md", "Public names") == sorted(django_dbq.__all__)


def test_the_reference_lists_every_state():
    assert names("states.md", "States") == sorted(State)


def test_the_reference_lists_every_outcome_of_the_history():
    source = (ROOT / "django_dbq/engine/lifecycle.py").read_text()
    kinds = set(re.findall(r'^    kind = "(\w+)"', source, re.MULTILINE))
    unrecorded = {"parked", "given_back"}  # Nothing ran, so there is no attempt to note.
    assert names("states.md", "Outcomes") == sorted(kinds - unrecorded)


def test_the_reference_lists_every_command_with_its_options():
    commands = find_commands(str(ROOT / "django_dbq/management"))
    text = (DOCS / "reference/commands.md").read_text()
    assert sorted(re.findall(r"^## (\w+)$", text, re.MULTILINE)) == sorted(commands)
    plain = BaseCommand().create_parser("manage.py", "plain")
    common = {option for action in plain._actions for option in spelled(action)}
    for name in commands:
        parser = load_command_class("django_dbq", name).create_parser("manage.py", name)
        own = [spelled(action) for action in parser._actions if not common.intersection(spelled(action))]
        listed = [re.findall(r"`([\w-]+)", row[0]) for row in rows("commands.md", name)]
        assert sorted(listed) == sorted(own), name


def spelled(action):
    return action.option_strings or [action.dest]


def test_the_operations_page_explains_every_log_line():
    first_cells = re.findall(r"^\| (`[A-Z].*?) \|", (DOCS / "operations.md").read_text(), re.MULTILINE)
    explained = {line for cell in first_cells for line in re.findall(r"`([A-Z][^`]*)`", cell)}
    logged = {line for path in (ROOT / "django_dbq/worker").glob("*.py") for line in log_lines(path)}
    assert explained == logged


def log_lines(path):
    """Yield the beginning of each message that a module logs, up to its first value."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="logger"), attr="log"), args=[_, message, *_]):
                yield from beginning(message)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="logger")), args=[message, *_]):
                yield from beginning(message)
            # The lines about an attempt put what happened into `event` first.
            case ast.Assign() if "event" in ast.unparse(node.targets):
                texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
                yield from (text for text in texts if isinstance(text, str) and text[:1].isupper())


def beginning(message):
    text = message.value if isinstance(message, ast.Constant) else ""
    return [] if text.startswith("%") or not text else [re.split(r" ?[\w.]*=?%|: ", text)[0]]
