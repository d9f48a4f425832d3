"""A workspace as JSON text."""

import datetime
import json
import uuid
from decimal import Decimal

import pytest
from django.core.serializers.json import DjangoJSONEncoder
from django.utils.functional import lazystr
from hypothesis import given
from hypothesis import strategies as st

from django_dbq.engine.workspace import changes, encode, printable, storable
from django_dbq.exceptions import WorkspaceError


def written(value, bytes_max=1_000_000, **options):
    return encode(value, encoder=DjangoJSONEncoder, bytes_max=bytes_max, **options)


def fault(value, **options):
    with pytest.raises(WorkspaceError) as caught:
        written(value, **options)
    return str(caught.value)


def nested(value, depth):
    for _ in range(depth):
        value = {"in": value}
    return value


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield key
            yield from strings(part)


plain = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
# With NUL and lone surrogates.
anything = st.text(st.characters(codec=None) | st.sampled_from("\0\ud83d\udc08\\"))
parts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | anything,
    lambda inner: st.lists(inner) | st.dictionaries(anything, inner),
)


# What can be kept.


@given(st.dictionaries(st.text(plain), st.none() | st.integers() | st.text(plain)))
def test_storable_values_come_back_as_they_were(workspace):
    text = written(workspace)
    assert text.isascii() and json.loads(text) == workspace


@given(st.dictionaries(anything, parts))
def test_what_is_written_never_holds_what_a_database_refuses(workspace):
    try:
        text = written(workspace)
    except WorkspaceError:
        return
    assert all(storable(part) for part in strings(json.loads(text)))


def test_values_that_django_knows_become_strings():
    workspace = {
        "moment": datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC),
        "day": datetime.date(2024, 2, 29),
        "time": datetime.time(12, 30),
        "span": datetime.timedelta(days=1, hours=2),
        "price": Decimal("1.10"),
        "key": uuid.UUID(int=7),
        "lazy": lazystr("later"),
    }
    assert json.loads(written(workspace)) == {
        "moment": "2024-02-29T12:30:00Z",
        "day": "2024-02-29",
        "time": "12:30:00",
        "span": "P1DT02H00M00S",
        "price": "1.10",
        "key": "00000000-0000-0000-0000-000000000007",
        "lazy": "later",
    }


def test_a_whole_surrogate_pair_and_a_written_out_escape_are_kept():
    workspace = {"cat": "🐈", "escape": r"\u0000 and \ud83d"}
    assert json.loads(written(workspace)) == workspace


def test_a_value_that_stands_twice_is_no_circle():
    shared = {"a": [1]}
    assert json.loads(written({"one": shared, "two": shared})) == {"one": {"a": [1]}, "two": {"a": [1]}}
    # Nor when the fault is elsewhere.
    assert fault({"one": shared, "two": shared, "three": {1}}).startswith("workspace['three']: ")


# What cannot be kept is named.


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")], ids=str)
@pytest.mark.parametrize("depth", [0, 1, 60, 400])
def test_a_number_that_json_lacks_is_named(number, depth):
    message = fault(nested({"fine": 1.5, "rate": number}, depth))
    assert message.startswith("workspace" + "['in']" * depth + "['rate']: ")
    assert "not JSON compliant" in message


@pytest.mark.parametrize("text", ["a\0b", "\ud83d", "\udc08\ud83d"], ids=ascii)
@pytest.mark.parametrize("depth", [0, 1, 60, 400])
def test_text_that_no_database_keeps_is_named(text, depth):
    message = fault(nested({"fine": "text", "name": text}, depth))
    where = "workspace" + "['in']" * depth + "['name']"
    assert message == f"{where}: holds a NUL or half a surrogate pair, which JSON columns refuse"


def test_text_that_no_database_keeps_is_found_in_what_the_encoder_writes():
    assert fault({"name": lazystr("a\0b")}).startswith("workspace['name']: holds a NUL")


@pytest.mark.parametrize("key", ["a\0b", "\ud83d"], ids=ascii)
def test_a_key_that_no_database_keeps_is_named(key):
    assert fault({"in": [{key: 1}]}) == (
        f"workspace['in'][0]: the key {key!r} holds a NUL or half a surrogate pair"
    )


@pytest.mark.parametrize("key", [(1, 2), uuid.UUID(int=7), b"x"], ids=repr)
def test_a_key_that_json_cannot_have_is_named(key):
    assert fault({"in": {key: 1}}) == f"workspace['in']: the key {key!r} is not a string"


@pytest.mark.parametrize("depth", [0, 1, 60, 400])
def test_a_value_that_the_encoder_cannot_write_is_named(depth):
    message = fault(nested({"fine": 1, "list": [0, {"object": object()}]}, depth))
    where = "workspace" + "['in']" * depth + "['list'][1]['object']"
    assert message == f"{where}: Object of type object is not JSON serializable"


def test_a_set_is_named():
    assert fault({"ids": {1}}) == "workspace['ids']: Object of type set is not JSON serializable"


def test_a_value_that_the_encoder_refuses_is_named():
    clock = datetime.time(12, 30, tzinfo=datetime.UTC)
    assert fault({"at": clock}) == "workspace['at']: JSON can't represent timezone-aware times."


def test_a_circle_is_named_where_it_closes():
    parent = {"children": []}
    parent["children"].append({"parent": parent})
    assert fault({"tree": parent}) == (
        "workspace['tree']['children'][0]['parent']: holds itself, which JSON cannot show"
    )


def test_a_circle_with_many_ways_round_is_found_at_once():
    parent = {}
    parent["children"] = [{"parent": parent, "left": parent, "right": parent} for _ in range(50)]
    assert fault(parent).endswith("holds itself, which JSON cannot show")


def test_a_workspace_nested_without_end_is_refused():
    assert fault(nested(1, 100_000)).endswith("nested more than 1,000 deep")


def test_a_workspace_of_just_the_size_allowed_is_kept_and_one_byte_more_is_not():
    workspace = {"text": "x" * 100}
    size = len(json.dumps(workspace))
    assert written(workspace, bytes_max=size)
    message = fault(workspace, bytes_max=size - 1)
    assert message.startswith(f"workspace is {size} bytes as JSON; at most {size - 1} are kept")
    assert "WORKSPACE_BYTES_MAX" in message


def test_the_fault_says_what_was_being_written():
    assert fault({"a": float("nan")}, what="result").startswith("result['a']: ")
    assert fault("x" * 100, what="result", bytes_max=50).startswith("result is 102 bytes")


@given(anything)
def test_text_made_printable_can_be_stored_and_keeps_its_length(text):
    shown = printable(text)
    assert storable(shown) and len(shown) == len(text)
    assert shown == text or not storable(text)


# What a task changed.


def test_changes_are_what_was_set_and_what_is_gone():
    before = {"same": 1, "other": 1, "gone": 1}
    after = {"same": 1, "other": 2, "new": None}
    assert changes(before, after) == {"set": {"other": 2, "new": None}, "unset": ["gone"]}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {}, None),
        ({"a": [1]}, {"a": [1]}, None),
        ({}, {"a": None}, {"set": {"a": None}}),
        ({"a": None}, {}, {"unset": ["a"]}),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, {"set": {"a": {"b": 2}}}),
    ],
)
def test_changes_leave_out_what_is_empty(before, after, expected):
    assert changes(before, after) == expected


objects = st.dictionaries(st.sampled_from("abcdef"), st.integers() | st.none() | st.lists(st.integers()))


@given(objects, objects)
def test_changes_lead_from_before_to_after(before, after):
    found = changes(before, after) or {}
    kept = {key: value for key, value in before.items() if key not in found.get("unset", ())}
    assert {**kept, **found.get("set", {})} == after
    assert found or before == after
