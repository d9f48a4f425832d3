"""manage.py import_jobs --from django_q: queued tasks are taken over, and nothing in a pickle is run."""

from __future__ import annotations

import collections
import datetime
import decimal
import functools
import math
import pickle
import re
import sys
import uuid
import zoneinfo
from io import StringIO

import pytest
from django.core import signing
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections
from django.utils import timezone
from django.utils.safestring import mark_safe

from django_dbq import Group, Job, calls
from django_dbq.compat import django_q_packages, importing
from django_dbq.compat.django_q import result, result_group
from django_dbq.testing import run_jobs
from tests.commands.test_import_from_django_q import OldQueued, OldSchedule
from tests.databases import connected
from tests.django_q import functions
from tests.django_q.functions import HERE
from tests.models import Row

pytestmark = pytest.mark.django_db(transaction=True)

SITE = "site"
UTC = datetime.UTC
MORNING = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=UTC)

# What django-q2 1.11.1 itself wrote, with this SECRET_KEY and this name.
REAL_BY_PATH = (
    "gAWVFQEAAAAAAAB9lCiMAmlklIwgOTVjYWJhMWQ4MmZlNDliODgxY2FkOTY4ODU2OWI2YTCUjARuYW1llIwKcm9vdCBvZiAxNpSMBGZ1bm"
    "OUjAltYXRoLnNxcnSUjARhcmdzlEsQhZSMBGhvb2uUjB10ZXN0cy5jb21tYW5kcy5mdW5jdGlvbnMudG9sZJSMBWdyb3VwlIwFcm9vdHOU"
    "jARzYXZllIiMB3RpbWVvdXSUSwWMBmt3YXJnc5R9lIwHc3RhcnRlZJSMCGRhdGV0aW1llIwIZGF0ZXRpbWWUk5RDCgfqCxURDRwHrXSUaB"
    "KMCHRpbWV6b25llJOUaBKMCXRpbWVkZWx0YZSTlEsASwBLAIeUUpSFlFKUhpRSlHUu"
    ":1xUoeW:DWcs_KPFJUoD_p_skcm-DS5sCKGaefzsOwLzRtr3Po0"
)
REAL_BY_REFERENCE = (
    "gAWV3gAAAAAAAAB9lCiMAmlklIwgOGVjNTI3NmViODE1NDM0MmJiY2FjMmE1ZTBkNzU4ZDKUjARuYW1llIwZYWxhbmluZS1wYXJpcy1ibG"
    "Fjay1ydWdieZSMBGZ1bmOUjARtYXRolIwDcG93lJOUjARhcmdzlEsCSwOGlIwGa3dhcmdzlH2UjAdzdGFydGVklIwIZGF0ZXRpbWWUjAhk"
    "YXRldGltZZSTlEMKB-oLFRENHAe1wZRoDowIdGltZXpvbmWUk5RoDowJdGltZWRlbHRhlJOUSwBLAEsAh5RSlIWUUpSGlFKUdS4"
    ":1xUoeW:I0ZlleyTD8mFv1m56AfC89UQ_yFkdv8OFitbKR6qf1g"
)


class Pickled:
    """The serializer of django-q."""

    def dumps(self, value):
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)


def package(task, *, compress=False, **signer):
    """Sign a task as django-q does."""
    return signing.dumps(task, **{"salt": SITE, **signer}, serializer=Pickled, compress=compress)


def a_task(func=f"{HERE}.write", *args, **more):
    """Return a task as django-q puts it together."""
    own = {"id": uuid.uuid4().hex, "name": "four-words-of-it", "func": func, "args": args}
    return {**own, "kwargs": {}, "started": timezone.now(), **more}


def put(payload, key=SITE, lock=MORNING):
    """Queue what django-q has signed, or a task that is to be; return the row."""
    payload = package(payload) if isinstance(payload, dict) else payload
    return OldQueued.objects.create(key=key, payload=payload, lock=lock)


@pytest.fixture(autouse=True)
def tables(transactional_db, settings):
    settings.Q_CLUSTER = {"name": SITE, "timeout": 60, "ALT_CLUSTERS": {"slow": {"timeout": 600}}}
    with connections["default"].schema_editor() as editor:
        for model in (OldSchedule, OldQueued):
            editor.create_model(model)
    yield
    with connections["default"].schema_editor() as editor:
        for model in (OldSchedule, OldQueued):
            editor.delete_model(model)


def said(*args, left=False):
    """Return what a run says; `left` tells whether it is to end with an error."""
    out = StringIO()
    try:
        call_command("import_jobs", "--from", "django_q", *args, stdout=out, stderr=out)
    except CommandError as error:
        assert left, f"{out.getvalue()}{error}"
        return f"{out.getvalue()}{error}"
    assert not left, out.getvalue()
    return out.getvalue()


def taken(*payloads):
    """Queue these, take them over and return the only job that there is then."""
    for payload in payloads:
        put(payload)
    said("--apply")
    return Job.objects.get()


def everything():
    return [list(model.objects.order_by("pk").values()) for model in (OldQueued, Job, Group)]


def test_tasks_that_django_q2_itself_queued_are_taken_over():
    put(REAL_BY_PATH)  # With a hook that is not in this project.
    put(REAL_BY_REFERENCE)
    assert "'tests.commands.functions.told' does not import" in said("--apply", left=True)
    job = Job.objects.get()
    assert (job.name, job.title) == ("math.pow", "alanine-paris-black-rugby")
    run_jobs()
    assert result("8ec5276eb8154342bbcac2a5e0d758d2") == 8


def test_the_maker_of_these_tests_writes_what_django_q2_writes():
    moment = datetime.datetime(2026, 11, 21, 17, 13, 28, 503156, tzinfo=UTC)
    ours = a_task("math.sqrt", 16, id="95caba1d82fe49b881cad9688569b6a0", name="root of 16")
    ours |= {"hook": "tests.commands.functions.told", "group": "roots", "save": True, "timeout": 5}
    task = django_q_packages.read(REAL_BY_PATH)
    assert task == {**ours, "started": moment}
    text, stamp, _ = REAL_BY_PATH.split(":")
    assert package(task).split(":")[0] == text
    assert signing.Signer(salt=SITE).sign(f"{text}:{stamp}") == REAL_BY_PATH


def test_without_apply_it_counts_and_writes_nothing():
    put(a_task("math.sqrt", 4))
    put(a_task("math.floor", 4))
    put(a_task("math.floor", 5))
    before = everything()
    assert said() == (
        "To move from django_q: schedules=0\n"
        "queued tasks=3\n"
        "  math.floor 2\n"
        "  math.sqrt 1\n"
        "refused=0\n"
        "nothing was written; run again with --apply\n"
    )
    assert everything() == before


def test_a_taken_task_runs_here_and_its_row_is_gone():
    task = a_task(f"{HERE}.write", "a")
    put(task)
    assert said("--apply").splitlines()[-1] == (
        "Moved: schedules=0 queued tasks=1; in django_q_schedule they have repeats=0 now,"
        " and from django_q_ormq they are gone"
    )
    assert not OldQueued.objects.exists()
    assert run_jobs() == 1
    assert result(task["id"]) == "a"
    assert [*Row.objects.values_list("text", flat=True)] == ["a"]


def test_a_second_run_finds_nothing():
    taken(a_task())
    assert "queued tasks=0\n" in said("--apply")
    assert Job.objects.count() == 1


def test_a_row_whose_task_was_taken_before_is_not_taken_again():
    task = a_task()
    taken(task)
    row = put(task)
    for apply in [], ["--apply"]:
        found = said(*apply, left=True)
        assert f"{row.pk} ({HERE}.write): there is a job with its id, {task['id']}, here already" in found
        assert "queued tasks=0" in found
    assert Job.objects.count() == OldQueued.objects.count() == 1


def test_of_two_rows_with_one_id_the_first_is_taken():
    task = a_task()
    first, second = put(task), put(task)
    assert f"django_q_ormq {second.pk} ({HERE}.write): django_q_ormq {first.pk} has its id too" in said(
        "--apply", left=True
    )
    assert Job.objects.count() == 1


def test_options_keep_their_meaning(ended, settings):
    settings.Q_CLUSTER = {"name": SITE, "max_attempts": 5}
    options = {"timeout": 7, "group": "roots", "hook": f"{HERE}.note", "ack_failure": True, "cached": 60}
    task = a_task(f"{HERE}.echo", 1, kwargs={"timeout": "of the function"}, **options)
    job = taken(task)
    assert (job.title, job.label, job.queue_name) == ("four-words-of-it", "roots", SITE)
    call = calls.read(job.call)
    assert (call.options["timeout_seconds"], call.options["retry"]) == (7, {"max_attempts": 1})
    assert run_jobs() == 1
    assert result_group("roots") == [((1,), {"timeout": "of the function"})]
    assert [told.id for told in ended] == [task["id"]]


@pytest.fixture
def ended():
    functions.ENDED.clear()
    yield functions.ENDED
    functions.ENDED.clear()


def test_a_task_waits_in_the_queue_of_its_cluster_by_whose_settings_it_runs():
    put(a_task(cluster="slow"), key="slow")
    said("--apply")
    job = Job.objects.get()
    assert (job.queue_name, calls.read(job.call).options["timeout_seconds"]) == ("slow", 600)


def test_a_task_that_is_not_to_be_kept_is_not():
    taken(a_task("math.sqrt", 4, save=False))
    run_jobs()
    assert not Job.objects.exists()


def test_the_number_of_a_schedule_without_a_name_becomes_a_label():
    assert taken(a_task(group=12)).label == "12"


@pytest.mark.parametrize(
    ("func", "path"),
    [
        (math.pow, "math.pow"),
        (functions.write, f"{HERE}.write"),
        (functions.Kept.double, f"{HERE}.Kept.double"),
        (functions.Kept.name, f"{HERE}.Kept.name"),
    ],
)
def test_a_function_that_was_pickled_becomes_its_path(func, path):
    assert taken(a_task(func, hook=functions.note)).name == path
    assert calls.read(Job.objects.get().call).options["hook"] == f"{HERE}.note"


@pytest.mark.parametrize("compress", [False, True])
def test_arguments_come_as_what_they_were(compress):
    berlin = datetime.datetime(2026, 7, 2, 3, 4, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
    day, moment = datetime.date(2026, 1, 2), datetime.time(3, 4, 5)
    given = [
        *(None, True, -1, 1.5, "ü" * 100, [1, (2, [3])], {"a": {"b": 1}}),
        *(MORNING, berlin, MORNING.replace(tzinfo=None), day, moment, datetime.timedelta(1, 2, 3)),
        *(decimal.Decimal("1.10"), uuid.UUID(int=5), uuid.uuid1()),
        datetime.datetime(2026, 7, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    ]
    task = a_task(f"{HERE}.echo", *given, kwargs={"given": given})
    call = calls.read(taken(package(task, compress=compress)).call)
    assert call.args == given
    assert call.kwargs == {"given": given}
    assert call.args[8].utcoffset() == datetime.timedelta(hours=2)


def test_ordered_dictionaries_and_safe_text_come_as_plain_ones():
    ordered = collections.OrderedDict(b=1, a=2)
    call = calls.read(taken(a_task("math.sqrt", ordered, mark_safe("<b>"))).call)
    assert call.args == [{"b": 1, "a": 2}, "<b>"]
    assert [type(part) for part in call.args] == [dict, str]
    assert [*call.args[0]] == ["b", "a"]


class Trap:
    def __reduce__(self):
        return functions.write, ("sprung",)


class Holder:
    def __init__(self):
        self.secret = 5

    def method(self): ...


def test_what_cannot_be_taken_is_named_and_the_others_are_taken():
    chain_of_sets = {"group": "g", "cached": False, "sync": False, "chain": [("math.sqrt", ({1},))]}
    reasons = {
        put(task).pk: reason
        for task, reason in [
            (a_task(f"{HERE}.echo", 1, {1, 2}), "args[1] is a builtins.set ({1, 2})"),
            (a_task(f"{HERE}.echo", a=1, kwargs={"a": [b"x"]}), "kwargs['a'][0] is a builtins.bytes"),
            (a_task(f"{HERE}.echo", Trap()), f"args[0] is a {HERE}.write (write('sprung',))"),
            (a_task(f"{HERE}.echo", Holder()), f"args[0] is a {__name__}.Holder"),
            (a_task(f"{HERE}.echo", Row(text="x")), "args[0] is a django.db.models.base.model_unpickle"),
            (a_task(f"{HERE}.echo", collections.deque([1])), "args[0] is a collections.deque"),
            (a_task(f"{HERE}.echo", collections.Counter("ab")), "args[0] is a collections.Counter"),
            (a_task(f"{HERE}.echo", collections.defaultdict(list, a=[1])), "collections.defaultdict"),
            (a_task(f"{HERE}.echo", ValueError("x")), "args[0] is a builtins.ValueError"),
            (a_task(f"{HERE}.echo", math.sqrt), "(math.sqrt)"),
            (a_task(f"{HERE}.echo", {1: 2}), "args[0] has the key 1"),
            (a_task(f"{HERE}.echo", float("nan")), "args[0] is nan"),
            (
                a_task(functools.partial(functions.echo, 1)),
                "its function is no function of a module, but partial",
            ),
            (a_task(Holder().method), "its function is no function of a module, but getattr("),
            (a_task("shop.nowhere.work"), "'shop.nowhere.work' does not import"),
            (a_task(hook="shop.nowhere.told"), "'shop.nowhere.told' does not import"),
            (a_task(timeout="soon"), "timeout: must be a number"),
            (a_task(id="a name"), "its id is no UUID: 'a name'"),
            (a_task(id=5), "its id is no UUID: 5"),
            (a_task(args=5), "with args a tuple, not 5"),
            (a_task(kwargs={1: 2}), "the name 1 is not a string"),
            (a_task(name="x" * 256), "task_name must be text"),
            (a_task("math.sqrt", 4, **chain_of_sets), "of the chain that follows it, math.sqrt: args[0]"),
            (package([1, 2]), "it is no task, but [1, 2]"),
            ("no signature", "its signature does not hold"),
            (package(a_task(), salt="another"), "its signature does not hold"),
            (package(a_task(), key="another"), "its signature does not hold"),
        ]
    }
    good = put(a_task())
    dry = said(left=True)
    assert "queued tasks=1\n" in dry
    assert Job.objects.count() == 0
    wet = said("--apply", left=True)
    for found in (dry, wet):
        for pk, reason in reasons.items():
            [line] = [line for line in found.splitlines() if re.match(rf"  django_q_ormq {pk}\b", line)]
            assert reason in line
    assert "What is named above would not be taken, and would stay where it is." in dry
    assert "What is named above was not taken, and stays where it is." in wet
    assert [*OldQueued.objects.order_by("pk").values_list("pk", flat=True)] == sorted(reasons)
    assert Job.objects.count() == 1
    assert not OldQueued.objects.filter(pk=good.pk).exists()
    assert not Row.objects.exists()


class Unwanted:
    def __reduce__(self):
        return exec, ("import sys; sys.modules['tests.it_ran'] = sys",)


def signed(data):
    return signing.TimestampSigner(salt=SITE).sign(signing.b64_encode(data).decode())


def test_nothing_in_a_pickle_is_called_or_imported():
    sys.modules.pop("this", None)
    put(a_task(f"{HERE}.echo", Unwanted(), Trap()))
    put(signed(b"cthis\nd\n."))
    put(signed(b"cbuiltins\ngetattr\n(cthis\nd\nVpop\ntR."))
    put(signed(b"cbuiltins\ngetattr\n(V\nVjoin\ntR."))
    assert said("--apply", left=True).count("it is no task, but") == 3
    assert not {"tests.it_ran", "this"} & set(sys.modules)
    assert not Row.objects.exists()


def test_what_is_not_signed_is_not_unpickled(monkeypatch):
    opened = []
    monkeypatch.setattr(django_q_packages._Serializer, "loads", lambda self, data: opened.append(data))
    put(package(a_task(), key="another"))
    said("--apply", left=True)
    assert opened == []
    put(a_task())
    said(left=True)
    assert len(opened) == 1


def test_a_pickle_that_is_broken_is_named():
    put(signed(b"broken"))
    assert "it cannot be read: UnpicklingError" in said("--apply", left=True)


def test_a_task_signed_by_a_former_key_is_taken(settings):
    settings.SECRET_KEY_FALLBACKS = ["former"]
    job = taken(package(a_task(f"{HERE}.write", "a"), key="former"))
    settings.SECRET_KEY_FALLBACKS = []
    assert calls.signature_holds(job)


def test_the_name_that_signs_is_that_of_the_site_and_not_the_queues(settings):
    settings.Q_CLUSTER = {"name": SITE, "cluster_name": "mail"}
    put(a_task(), key="mail")
    said("--apply")
    assert Job.objects.get().queue_name == "mail"


@pytest.mark.parametrize("settings_given", [{}, None])
def test_without_a_name_it_is_default(settings, settings_given):
    del settings.Q_CLUSTER
    if settings_given is not None:
        settings.Q_CLUSTER = settings_given
    put(package(a_task(), salt="default"), key="default")
    said("--apply")
    assert Job.objects.get().queue_name == "default"


# What a cluster may hold.


@pytest.mark.parametrize("apply", [[], ["--apply"]])
def test_what_is_locked_is_left_until_its_lock_has_passed(apply):
    until = datetime.datetime(2199, 1, 2, 3, 4, 5, tzinfo=UTC)
    held = [put(a_task(), lock=MORNING.replace(year=2190)), put(a_task(), lock=until)]
    put(a_task())
    found = said(*apply, left=True)
    assert "queued tasks=1\n" in found
    assert "2 rows of django_q_ormq are locked: a cluster runs them" in found
    assert "run again after 2199-01-02 03:04:05+00:00." in found
    assert {row.pk for row in held} <= {*OldQueued.objects.values_list("pk", flat=True)}
    OldQueued.objects.update(lock=MORNING)
    said("--apply")
    assert Job.objects.count() == 3


def test_what_no_cluster_would_ever_run_is_left():
    put(a_task(), lock=None)
    assert "1 rows of django_q_ormq: their lock is NULL" in said("--apply", left=True)
    assert OldQueued.objects.count() == 1


def test_what_a_cluster_claims_while_it_runs_is_not_taken(monkeypatch):
    pages = importing.pages

    def claimed_after(rows):
        for page in pages(rows):
            OldQueued.objects.filter(pk=page[0].pk).update(lock=MORNING.replace(year=2199))
            yield page

    from django_dbq.compat import django_q_import

    first, _ = put(a_task()), put(a_task())
    monkeypatch.setattr(django_q_import, "look", lambda using: django_q_import.Found())
    monkeypatch.setattr(importing, "pages", claimed_after)
    said("--apply", left=True)
    assert [row.pk for row in OldQueued.objects.all()] == [first.pk]
    assert Job.objects.count() == 1


@pytest.mark.postgresql
def test_a_cluster_cannot_claim_what_is_being_taken(monkeypatch):
    from django_dbq.compat import django_q_import

    delete = django_q_import._delete

    def claimed_first(using, rows):
        with connected("default") as other, other.cursor() as cursor:
            cursor.execute("SET lock_timeout = '50ms'")
            with pytest.raises(OperationalError, match="lock timeout"):
                cursor.execute("UPDATE django_q_ormq SET lock = now() + interval '1 hour'")
        delete(using, rows)

    monkeypatch.setattr(django_q_import, "_delete", claimed_first)
    taken(a_task())


# Batches.


def test_the_order_is_kept_over_more_than_one_batch(monkeypatch):
    monkeypatch.setattr(importing, "BATCH", 2)
    for text in "abcde":
        put(a_task(f"{HERE}.write", text))
    said("--apply")
    assert run_jobs() == 5
    assert "".join(Row.objects.order_by("pk").values_list("text", flat=True)) == "abcde"


def test_a_run_that_dies_has_lost_nothing_and_the_next_one_takes_the_rest(monkeypatch):
    from django_dbq.compat import django_q_import

    monkeypatch.setattr(importing, "BATCH", 2)
    delete = django_q_import._delete
    deleted = []

    def die_at_the_second(using, rows):
        deleted.append(rows)
        if len(deleted) == 2:
            raise KeyboardInterrupt
        delete(using, rows)

    for text in "abcde":
        put(a_task(f"{HERE}.write", text))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(django_q_import, "_delete", die_at_the_second)
        said("--apply")
    assert (Job.objects.count(), OldQueued.objects.count()) == (2, 3)
    said("--apply")
    assert (Job.objects.count(), OldQueued.objects.count()) == (5, 0)
    run_jobs()
    assert "".join(Row.objects.order_by("pk").values_list("text", flat=True)) == "abcde"


# Chains and lists.


def test_a_chain_goes_on_here_in_its_order(ended):
    chain = [
        (functions.write, ("b",)),
        f"{HERE}.typed",
        ("math.floor", (2.5,), {"hook": functions.note, "task_name": "last", "timeout": 9}),
    ]
    more = {"group": "links", "chain": chain, "sync": False, "cached": False}
    put(a_task(f"{HERE}.write", "a", id="f" * 12 + "4fff8" + "f" * 14 + "0", **more), key="slow")
    said("--apply")
    assert run_jobs() == 4
    jobs = Job.objects.order_by("pk")
    assert [job.name for job in jobs] == [f"{HERE}.{name}" for name in ("write", "write", "typed")] + [
        "math.floor"
    ]
    assert {(job.queue_name, job.label) for job in jobs} == {("slow", "links")}
    assert [told.name for told in ended] == ["last"]
    assert result_group("links")[3] == 2


def a_list(*items, count=None, **more):
    label = uuid.uuid4().hex
    shared = {"group": label, "iter_count": len(items) if count is None else count, "cached": True, **more}
    return label, [a_task(math.floor, item, **shared) for item in items]


def test_a_list_of_calls_has_its_results_under_its_id_in_order(monkeypatch):
    monkeypatch.setattr(importing, "BATCH", 2)
    label, tasks = a_list(1.5, 2.5, 3.5, 4.5, 5.5)
    for task in tasks:
        put(task, key="slow")
    put(a_task())
    before = everything()
    assert "queued tasks=6\n  math.floor 5\n" in said()
    assert everything() == before
    said("--apply")
    assert not OldQueued.objects.exists()
    run_jobs()
    assert result(label) == [1, 2, 3, 4, 5]
    assert Job.objects.get(pk=label).queue_name == "slow"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (
            lambda: a_list(1.5, 2.5, count=3),
            "it had 3, and the results of the others are in django-q's cache",
        ),
        (lambda: a_list(1.5, {2}), "(math.floor): math.floor: args[0] is a builtins.set"),
    ],
)
def test_a_list_that_is_not_whole_is_left_whole(given, why):
    label, tasks = given()
    for task in tasks:
        put(task)
    put(a_task())
    for apply in [], ["--apply"]:
        found = said(*apply, left=True)
        assert "queued tasks=1\n" in found
        [line] = [line for line in found.splitlines() if f"the 2 calls of async_iter {label!r}" in line]
        assert why in line
    assert OldQueued.objects.count() == 2
    assert (Job.objects.count(), Group.objects.count()) == (1, 0)


def test_the_options_of_a_list_are_the_lists_and_its_calls_have_none():
    label, [task] = a_list(1.5, save=False)
    put(task)
    said("--apply")
    final, part = Job.objects.order_by("pk")
    assert final.pk.hex == label
    assert [calls.read(job.call).options.get("save") for job in (final, part)] == [False, None]
    assert (part.label, part.title) == (None, "four-words-of-it")


def test_a_list_that_a_cluster_claims_while_it_is_read_is_not_taken(monkeypatch):
    pages = importing.pages

    def claimed_behind(rows):
        for page in pages(rows):
            yield page
            OldQueued.objects.update(lock=MORNING.replace(year=2199))

    _, [task] = a_list(1.5)
    put(task)
    monkeypatch.setattr(importing, "pages", claimed_behind)
    assert "1 rows of django_q_ormq are locked" in said("--apply", left=True)
    assert (Job.objects.count(), Group.objects.count(), OldQueued.objects.count()) == (0, 0, 1)


def test_a_list_that_was_taken_before_is_not_taken_again():
    _, [task] = a_list(1.5)
    put(task)
    said("--apply")
    put(task)
    assert "there is a job with its id here already" in said("--apply", left=True)
    assert Job.objects.count() == 2


def test_a_list_whose_name_is_no_id_is_left():
    _, [task] = a_list(1.5)
    put({**task, "group": None})
    assert "'None': its id is no UUID" in said("--apply", left=True)


def test_queued_tasks_stay_when_a_schedule_is_refused():
    OldSchedule.objects.create(func="shop.nowhere.work")
    put(a_task())
    assert "so nothing was written" in said("--apply", left=True)
    assert OldQueued.objects.count() == 1
    assert not Job.objects.exists()


def test_of_a_project_with_another_broker_the_schedules_are_moved():
    with connections["default"].schema_editor() as editor:
        editor.delete_model(OldQueued)
    try:
        assert "queued tasks=0\n" in said("--apply")
    finally:
        with connections["default"].schema_editor() as editor:
            editor.create_model(OldQueued)


# The rows lie in another database than the jobs.


@pytest.fixture
def tables_elsewhere(tables, settings):
    """The tables of django-q in the database `jobs` too, which Q_CLUSTER names."""
    settings.Q_CLUSTER = {**settings.Q_CLUSTER, "orm": "jobs"}
    with connections["jobs"].schema_editor() as editor:
        for model in (OldSchedule, OldQueued):
            editor.create_model(model)
    yield
    with connections["jobs"].schema_editor() as editor:
        for model in (OldSchedule, OldQueued):
            editor.delete_model(model)


in_two_databases = pytest.mark.django_db(transaction=True, databases=["default", "jobs"])


def put_elsewhere(**task):
    return OldQueued.objects.using("jobs").create(key=SITE, payload=package(a_task(**task)), lock=MORNING)


@in_two_databases
@pytest.mark.parametrize("apply", [["--apply"], []])
def test_a_queue_in_another_database_stays_there_and_is_named(tables_elsewhere, apply):
    OldSchedule.objects.create(func="math.floor", args="1")
    stale = put(a_task())  # No cluster would run it: they look in the other database.
    for _ in range(2):
        put_elsewhere()
    found = said(*apply, left=True)
    assert "schedules=1\n  math.floor 1\nqueued tasks=0\n" in found
    assert (
        "2 rows of django_q_ormq are in the database 'jobs', and jobs are kept in 'default': no transaction"
        " spans both. Let a qcluster of the old release run them; or set Q_CLUSTER['orm'] to 'default' and"
        " move the rows to that table of 'default'; or have a router keep the jobs in 'jobs'."
    ) in found
    assert OldQueued.objects.using("jobs").count() == 2 and OldQueued.objects.get() == stale
    assert not Job.objects.exists() and not Job.objects.using("jobs").exists()


@in_two_databases
def test_an_empty_queue_in_another_database_is_nothing_to_name(tables_elsewhere):
    OldSchedule.objects.create(func="math.floor", args="1")
    assert "Moved: schedules=1 queued tasks=0;" in said("--apply")


@in_two_databases
def test_jobs_are_written_where_the_router_has_them_when_the_queue_is_there_too(tables_elsewhere, settings):
    settings.DATABASE_ROUTERS = ["tests.routers.JobsRouter"]
    put_elsewhere(func="math.floor", args=(1.5,))
    assert "queued tasks=1;" in said("--apply")
    assert Job.objects.using("jobs").get().name == "math.floor"
    assert not Job.objects.using("default").exists() and not OldQueued.objects.using("jobs").exists()


@in_two_databases
@pytest.mark.parametrize("apply", [["--apply"], []])
def test_schedules_in_another_database_than_the_jobs_stay_there_and_are_named(
    tables_elsewhere, settings, apply
):
    settings.DATABASE_ROUTERS = ["tests.routers.JobsRouter"]
    OldSchedule.objects.using("default").create()
    OldSchedule.objects.using("default").create(repeats=0)
    found = said(*apply, left=True)
    assert "1 rows of django_q_schedule are in the database 'default', and jobs are kept in 'jobs'" in found
    assert "set Q_CLUSTER" not in found


@in_two_databases
def test_a_queue_in_a_database_that_is_not_there_is_named(tables_elsewhere, settings):
    settings.Q_CLUSTER = {**settings.Q_CLUSTER, "orm": "gone"}
    assert "Q_CLUSTER['orm'] is 'gone', which DATABASES does not have" in said(left=True)
