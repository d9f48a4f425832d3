"""Secrets are not shown: values under the keys that DBQ["REDACT"] names."""

from __future__ import annotations

import io
import logging

import pytest
from django.test import override_settings

from django_dbq import Job, SettingsError, conf
from django_dbq.redaction import MASK, is_masked, redact, redact_text, restore


@pytest.mark.parametrize(
    "key", ["password", "PASSWORD", "db_password", "apiToken", "client-secret", "key", "Authorization"]
)
def test_a_value_under_a_secret_s_key_is_masked(key):
    assert redact({key: "hunter2", "name": "ann"}) == {key: MASK, "name": "ann"}


def test_values_are_masked_at_any_depth_and_whatever_they_are():
    shown = redact({"servers": [{"host": "a", "token": ["x", {"y": 1}]}], "secret": None})
    assert shown == {"servers": [{"host": "a", "token": MASK}], "secret": MASK}


def test_what_is_redacted_is_a_copy():
    given = {"login": {"password": "hunter2"}}
    redact(given)
    assert given == {"login": {"password": "hunter2"}}


@override_settings(DBQ={"REDACT": ["iban"]})
def test_the_setting_says_which_keys():
    assert redact({"IBAN": "DE1", "password": "hunter2"}) == {"IBAN": MASK, "password": "hunter2"}
    assert redact_text("iban=DE1 password=hunter2") == f"iban={MASK} password=hunter2"


@override_settings(DBQ={"REDACT": []})
def test_an_empty_setting_masks_nothing():
    assert redact({"password": "hunter2"}) == {"password": "hunter2"}
    assert redact_text("password=hunter2") == "password=hunter2"


@pytest.mark.parametrize("wrong", [[1], [""], "password"])
def test_a_pattern_that_is_no_text_is_refused(wrong):
    with override_settings(DBQ={"REDACT": wrong}), pytest.raises(SettingsError, match="REDACT"):
        conf.options()


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("password=hunter2 user=ann", f"password={MASK} user=ann"),
        ('{"api_key": "a b", "n": 1}', f'{{"api_key": {MASK}, "n": 1}}'),
        ("{'token': 'a\\'b'}", f"{{'token': {MASK}}}"),
        ("secret_key => zz, n => 1", f"secret_key => {MASK}, n => 1"),
        ("Authorization: Bearer abc.def", f"Authorization: {MASK}"),
        ("https://x/?token=abc&page=2", f"https://x/?token={MASK}&page=2"),
        ('cut off: {"secret": "abc', f'cut off: {{"secret": {MASK}'),
    ],
)
def test_a_secret_in_a_text_is_masked_where_the_text_gives_its_key(text, masked):
    assert redact_text(text) == masked


@pytest.mark.parametrize("text", ["KeyError: 'customer'", "myapp.TokenError: it expired", "no key here"])
def test_a_text_without_a_secret_stays_as_it_is(text):
    assert redact_text(text) == text


def test_what_was_shown_masked_comes_back_whole():
    original = {"to": "ann", "login": {"password": "hunter2"}, "more": [{"key": 1}]}
    shown = redact(original)
    shown["to"] = "bob"
    assert restore(shown, original) == {"to": "bob", "login": {"password": "hunter2"}, "more": [{"key": 1}]}


@pytest.mark.parametrize("value", [{"login": {"password": "hunter2"}}, [{"key": 1}]])
def test_a_value_tells_whether_it_is_masked_anywhere(value):
    assert is_masked(redact(value)) and not is_masked(value)


class OwnFormatter(logging.Formatter):
    """One that formats the exception by itself, as those that write JSON do."""

    def format(self, record):
        error = str(record.exc_info[1]) if record.exc_info else record.exc_text
        return f"{record.getMessage()} {error}"


@pytest.fixture
def lines():
    """The lines of the workers' logger, as a formatter of somebody's own has them."""
    stream = io.StringIO()
    handler, logger = logging.StreamHandler(stream), logging.getLogger("django_dbq.worker")
    handler.setFormatter(OwnFormatter())
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


def told(message, lines):
    logger = logging.getLogger("django_dbq.worker")
    try:
        raise ValueError(message)
    except ValueError as error:
        logger.critical("Worker stops: %s", error, exc_info=error)
    return lines.getvalue()


def test_a_formatter_that_reads_the_exception_itself_finds_none_that_tells_a_secret(lines):
    found = told("no login with password=hunter2", lines)
    assert found.startswith(f"Worker stops: no login with password={MASK} Traceback")
    assert "hunter2" not in found


def test_an_error_that_tells_no_secret_is_logged_with_its_exception(lines):
    assert told("no login", lines) == "Worker stops: no login no login\n"


@pytest.mark.django_db(transaction=True)
def test_no_line_of_a_worker_shows_a_secret_of_a_failed_attempt(manage):
    job = Job.objects.create(name="leak")
    worker = manage("worker", "--burst")
    assert worker.wait() == 0
    assert f"ValueError: cannot log in with password={MASK}" in worker.log()  # Its traceback.
    assert "hunter2" not in worker.log()
    job.refresh_from_db()
    assert "hunter2" in job.error  # The row keeps it.
