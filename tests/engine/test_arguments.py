"""What goes into the arguments of a call comes out as what it was, or is refused by name."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_dbq.engine.arguments import NotEncodable, decode, encode

plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.dates(),
    st.datetimes(timezones=st.one_of(st.none(), st.just(UTC))),
    st.times(),
    st.timedeltas(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
)
values = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(st.one_of(st.text(), st.just("$")), inner),
    ),
    max_leaves=20,
)


def there_and_back(value):
    return decode(json.loads(json.dumps(encode(value, "args[0]"), allow_nan=False)))


def types(value):
    """The value with the type of each part, since True == 1 == 1.0."""
    if isinstance(value, (list, tuple)):
        return type(value), [types(part) for part in value]
    if isinstance(value, dict):
        return {key: types(part) for key, part in value.items()}
    return type(value), value


@given(values)
def test_a_value_comes_back_as_what_it_was(value):
    assert types(there_and_back(value)) == types(value)


def test_a_time_in_a_zone_comes_back_as_the_same_moment():
    value = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    assert there_and_back(value) == value


def test_a_dictionary_with_the_key_of_the_encoding_comes_back():
    value = {"$": ["decimal", "1"]}
    assert there_and_back(value) == value


class Thing:
    def __repr__(self):
        raise ValueError("no repr")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Thing(), "args[0] is a tests.engine.test_arguments.Thing (without a repr)"),
        ([1, {"a": {1, 2}}], "args[0][1]['a'] is a builtins.set"),
        (b"abc", "args[0] is a builtins.bytes"),
        (float("nan"), "args[0] is nan"),
        ({1: 2}, "args[0] has the key 1, which is not a string"),
        (lambda: None, "args[0] is a builtins.function"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_place(value, message):
    with pytest.raises(NotEncodable) as refused:
        encode(value, "args[0]")
    assert str(refused.value).startswith(message)


def test_a_list_that_holds_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(NotEncodable, match="holds itself"):
        encode(value, "args[0]")


def test_what_another_version_wrote_is_refused():
    with pytest.raises(ValueError, match="unknown type 'money'"):
        decode({"$": ["money", "1"]})


def test_the_known_types_are_written_so():
    value = [date(2026, 1, 2), time(3, 4), timedelta(1, 2, 3), Decimal("1.10"), UUID(int=5), (1,)]
    assert encode(value, "args") == [
        {"$": ["date", "2026-01-02"]},
        {"$": ["time", "03:04:00"]},
        {"$": ["timedelta", [1, 2, 3]]},
        {"$": ["decimal", "1.10"]},
        {"$": ["uuid", "00000000-0000-0000-0000-000000000005"]},
        {"$": ["tuple", [1]]},
    ]
