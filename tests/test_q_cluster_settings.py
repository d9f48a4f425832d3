"""Q_CLUSTER as the original has it: what it means here, what is refused, and what is warned of."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.checks import run_checks
from django.core.management import call_command

from django_dbq import SettingsError
from django_dbq.compat import django_q_settings
from django_dbq.compat.django_q_settings import Cluster, cluster, clusters

# As the documentation of the original shows them.
DOCUMENTED = {
    "name": "myproject",
    "workers": 8,
    "recycle": 500,
    "timeout": 60,
    "compress": True,
    "save_limit": 250,
    "queue_limit": 500,
    "cpu_affinity": 1,
    "label": "Django Q2",
    "redis": {"host": "127.0.0.1", "port": 6379, "db": 0},
    "ALT_CLUSTERS": {
        "long": {"timeout": 3000, "retry": 3600, "max_attempts": 2},
        "short": {"timeout": 10, "max_attempts": 1},
    },
}


def warned():
    return [(message.id, message.msg) for message in run_checks(tags=["django_dbq"])]


def test_without_the_setting_everything_has_a_default(settings):
    del settings.Q_CLUSTER
    assert cluster() == Cluster()
    assert (cluster().name, cluster().timeout, clusters()) == ("default", None, ["default"])
    assert warned() == []


def test_the_settings_of_the_cluster_are_read(settings):
    settings.Q_CLUSTER = {
        "name": "p",
        "workers": 8,
        "recycle": 500,
        "max_rss": 100_000,
        "timeout": 1.5,
        "max_attempts": 0,
        "ack_failures": True,
        "catch_up": False,
        "save_limit": -1,
        "save_limit_per": "func",
        "sync": True,
        "time_zone": "Europe/Rome",
        "orm": "default",
    }
    assert cluster() == Cluster(
        name="p",
        workers=8,
        recycle=500,
        max_rss=100_000,
        timeout=1.5,
        max_attempts=0,
        ack_failures=True,
        catch_up=False,
        save_limit=-1,
        save_limit_per="func",
        sync=True,
        time_zone="Europe/Rome",
    )
    assert warned() == []


def test_what_the_original_takes_for_not_set_is_not_set(settings):
    unset = {
        "workers": False,
        "recycle": 0,
        "timeout": None,
        "max_rss": None,
        "name": "",
    }
    settings.Q_CLUSTER = unset
    assert cluster() == Cluster()
    assert warned() == []


def test_an_alternative_cluster_has_its_own_settings_above_the_others(settings):
    settings.Q_CLUSTER = DOCUMENTED
    assert (cluster().name, cluster().timeout) == ("myproject", 60)
    long = cluster("long")
    assert (long.name, long.timeout, long.max_attempts, long.workers) == ("long", 3000, 2, 8)
    assert cluster("short").timeout == 10
    assert cluster("myproject").timeout == 60
    assert clusters() == ["myproject", "long", "short"]


def test_a_name_that_nobody_has_described_is_a_queue_with_the_common_settings(settings):
    settings.Q_CLUSTER = DOCUMENTED
    other = cluster("other")
    assert (other.name, other.timeout, other.max_attempts) == ("other", 60, None)


def test_the_cluster_name_of_the_setting_comes_before_its_name(settings):
    settings.Q_CLUSTER = {"name": "site", "cluster_name": "mail"}
    assert cluster().name == "mail"


def test_the_environment_names_the_cluster_of_a_process(settings, monkeypatch):
    settings.Q_CLUSTER = DOCUMENTED
    monkeypatch.setenv("Q_CLUSTER_NAME", "long")
    assert (cluster().name, cluster().timeout) == ("long", 3000)
    assert cluster("short").timeout == 10
    monkeypatch.setenv("Q_CLUSTER_NAME", "")
    assert cluster().name == "myproject"


def test_a_change_of_the_setting_is_seen(settings):
    settings.Q_CLUSTER = {"timeout": 1}
    assert cluster().timeout == 1
    settings.Q_CLUSTER = {"timeout": 2}
    assert cluster().timeout == 2


FAULTS = [
    (["p"], "Q_CLUSTER: must be a dictionary, not list"),
    ({"name": 5}, "Q_CLUSTER['name']: must be text, not 5"),
    ({"name": "q" * 101}, "Q_CLUSTER['name']: is 101 characters long; at most 100"),
    ({"workers": "4"}, "Q_CLUSTER['workers']: must be a whole number, not '4'"),
    ({"workers": True}, "Q_CLUSTER['workers']: must be a whole number, not True"),
    ({"workers": -1}, "Q_CLUSTER['workers']: must be at least 0, not -1"),
    ({"timeout": "soon"}, "Q_CLUSTER['timeout']: must be a number, not 'soon'"),
    ({"timeout": float("nan")}, "Q_CLUSTER['timeout']: must be at least 0, not nan"),
    (
        {"time_zone": "Mars/x"},
        "Q_CLUSTER['time_zone']: there is no time zone 'Mars/x'; give a name such as 'Europe/Rome'",
    ),
    ({"save_limit": -2}, "Q_CLUSTER['save_limit']: must be at least -1, not -2"),
    (
        {"save_limit_per": "label"},
        "Q_CLUSTER['save_limit_per']: must be one of None, 'group', 'func', 'name', not 'label'",
    ),
    ({"save_limit_per": 5}, "Q_CLUSTER['save_limit_per']: must be text, not 5"),
    ({"sync": 1}, "Q_CLUSTER['sync']: must be True or False, not 1"),
    ({"ALT_CLUSTERS": ["a"]}, "Q_CLUSTER['ALT_CLUSTERS']: must be a dictionary, not list"),
    ({"ALT_CLUSTERS": {"a": 5}}, "Q_CLUSTER['ALT_CLUSTERS']['a']: must be a dictionary, not int"),
    (
        {"ALT_CLUSTERS": {5: {}}},
        "Q_CLUSTER['ALT_CLUSTERS'][5]: the name must be text of 1 to 100 characters",
    ),
    (
        {"ALT_CLUSTERS": {"a": {"recycle": 1.5}}},
        "Q_CLUSTER['ALT_CLUSTERS']['a']['recycle']: must be a whole number, not 1.5",
    ),
]


@pytest.mark.parametrize(("value", "message"), FAULTS)
def test_what_cannot_be_used_is_told_with_its_place_by_the_check_and_when_it_is_used(
    settings, value, message
):
    settings.Q_CLUSTER = value
    assert warned() == [("dbq.E101", message)]
    with pytest.raises(SettingsError) as raised:
        cluster()
    assert raised.value.problems == [message]


def test_what_has_no_meaning_here_is_warned_of_with_the_reason(settings):
    settings.Q_CLUSTER = DOCUMENTED
    found = dict(reversed(text.split(" has no meaning here: ")) for _, text in warned())
    assert sorted(found.values()) == [
        "Q_CLUSTER['ALT_CLUSTERS']['long']['retry']",
        "Q_CLUSTER['compress']",
        "Q_CLUSTER['cpu_affinity']",
        "Q_CLUSTER['label']",
        "Q_CLUSTER['queue_limit']",
        "Q_CLUSTER['redis']",
    ]
    assert {id for id, _ in warned()} == {"dbq.W101"}
    assert "there is no broker: jobs are rows of the project's own database" in found


@pytest.mark.parametrize("key", sorted(django_q_settings.MEANINGLESS))
def test_each_of_them_is_warned_of_once_and_used_for_nothing(settings, key):
    settings.Q_CLUSTER = {key: True}
    [(id, text)] = warned()
    assert id == "dbq.W101" and text.startswith(f"Q_CLUSTER[{key!r}] has no meaning here: ")
    assert cluster() == Cluster()


@pytest.mark.parametrize(
    ("key", "hint"),
    [("retyr", "retry"), ("worker", "workers"), ("ALT_CLUSTER", "ALT_CLUSTERS"), ("zzz", None)],
)
def test_an_unknown_setting_is_warned_of_with_the_nearest_that_is_known(settings, key, hint):
    settings.Q_CLUSTER = {key: {}}
    extra = f". Did you mean {hint!r}?" if hint else ""
    assert warned() == [("dbq.W102", f"Q_CLUSTER has no option {key!r}{extra}")]


def test_a_secret_in_what_is_not_used_is_not_shown(settings):
    settings.Q_CLUSTER = {"redis": {"password": "hunter2"}, "sqs": {"aws_secret_access_key": "hunter2"}}
    assert "hunter2" not in str(warned())


def test_another_database_than_that_of_the_jobs_is_warned_of(settings):
    settings.Q_CLUSTER = {"orm": "jobs"}
    wanted = "Q_CLUSTER['orm'] is 'jobs', but database routers decide where jobs are kept, and say 'default'"
    assert warned() == [("dbq.W103", wanted)]
    settings.DATABASE_ROUTERS = ["tests.routers.JobsRouter"]
    assert warned() == []


def test_warnings_do_not_fail_the_check_command(settings):
    settings.Q_CLUSTER = DOCUMENTED
    err = StringIO()
    call_command("check", stdout=StringIO(), stderr=err)
    assert "dbq.W101" in err.getvalue()
