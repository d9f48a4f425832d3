"""The report of the bench: what was measured is shown whole, best first, and in charts that browsers read."""

import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks import report

SVG = "{http://www.w3.org/2000/svg}"


def measured(contenders, **changed):
    about = {
        "title": "Drain: <nothing> & more",
        "unit": "jobs/s",
        "less": False,
        "measured": "2026-11-21",
        "commit": "abc1234",
        "machine": "2 cores",
        "server": "PostgreSQL 18",
        "contenders": {
            name: {"version": f"{name} 1.0", "settings": f"of {name}", "samples": samples}
            for name, samples in contenders.items()
        },
    }
    return {**about, **changed}


SLOW = {"one process": [10.0, 12.0, 11.0], "two processes": [20.0, 21.0, 22.0]}
FAST = {"one process": [900.0, 1_000.0, 1_100.0], "two processes": [1_500.0, 1_400.0, 1_600.0]}


def first_cells(table):
    return [line.split("|")[1].strip() for line in table.splitlines()[2:]]


def bars(chart):
    return [
        each for each in ElementTree.fromstring(chart).iter(f"{SVG}rect") if each.get("x") == str(report.NAME)
    ]


def texts(chart):
    return [each.text for each in ElementTree.fromstring(chart).iter(f"{SVG}text")]


def test_the_table_has_the_best_first_by_the_first_variant():
    contenders = {"procrastinate": SLOW, "ours": FAST}
    assert first_cells(report.table(measured(contenders))) == ["ours", "procrastinate"]
    assert first_cells(report.table(measured(contenders, less=True))) == ["procrastinate", "ours"]


def test_a_cell_has_the_median_and_the_range():
    assert "| 1,000 (900 to 1,100) | 1,500 (1,400 to 1,600) |" in report.table(measured({"ours": FAST}))


def test_the_last_column_says_by_how_much_ours_is_better_column_by_column():
    contenders = {"procrastinate": SLOW, "ours": FAST}
    assert report.table(measured(contenders)).splitlines()[-1].endswith("| 91x / 71x |")
    assert "| 0.011x / 0.014x |" in report.table(measured(contenders, less=True))


@pytest.mark.parametrize("less", [False, True])
def test_a_contender_without_a_variant_has_an_empty_cell_no_bar_and_no_rank_in_the_first(less):
    partial = {"two processes": [1.0]}
    about = measured({"ours": FAST, "huey": partial, "celery": SLOW}, less=less)
    table = report.table(about)
    assert first_cells(table)[-1] == "huey"
    assert "| huey |  | 1 (1 to 1) |" in table
    assert len(bars(report.chart(about))) == 5


def test_the_chart_names_every_contender_and_median_and_marks_ours():
    chart = report.chart(measured({"ours": FAST, "procrastinate": SLOW}))
    assert {"ours", "procrastinate", "1,000", "11", "one process", "two processes"} <= set(texts(chart))
    assert [bar.get("class") for bar in bars(chart)] == ["bar ours", "bar ours", "bar", "bar"]


@pytest.mark.parametrize(
    ("samples", "share"),
    [([50.0], 0.5), ([10.0], 0.1), ([1.0], 1 / 3)],
    ids=["linear", "still linear", "logarithmic: of 0.1 to 100 a third"],
)
def test_a_bar_is_as_long_as_its_figure_until_the_spread_is_too_large(samples, share):
    about = measured({"ours": {"one": [100.0]}, "huey": {"one": samples}})
    lengths = [float(bar.get("width")) for bar in bars(report.chart(about))]
    assert lengths == pytest.approx([report.BARS, report.BARS * share], abs=0.1)


def test_a_figure_of_zero_is_a_bar_without_length():
    about = measured({"ours": {"one": [100.0]}, "huey": {"one": [0.0]}})
    assert [float(bar.get("width")) for bar in bars(report.chart(about))] == [report.BARS, 0.0]


def test_the_page_has_a_chart_and_a_table_for_each_scenario_and_says_what_is_not_equal(tmp_path):
    report.add(tmp_path, "pickup", measured({"ours": {"p50": [3.0]}}, title="Pickup", unit="ms", less=True))
    report.add(tmp_path, "drain", measured({"ours": FAST, "django_db_queue": SLOW}, title="Drain"))
    report.add(tmp_path, "growth", measured({}, title="Nobody finished"))
    report.write(tmp_path)
    page = (tmp_path / "index.md").read_text()
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    assert headings == ["## Drain", "## Pickup", "## What is equal, and what is not"]
    for said in ("(drain.svg)", "(pickup.svg)", "of django_db_queue", "abc1234", "PostgreSQL 18", "2 cores"):
        assert said in page
    assert (
        "| django_db_queue | with the caller's commit | a row for each job | none: the job stays PROCESSING |"
        in page
    )
    for name in ("drain", "pickup"):
        ElementTree.parse(tmp_path / f"{name}.svg")


def test_results_keep_the_order_in_which_variants_were_measured(tmp_path):
    report.add(tmp_path, "memory", measured({"ours": {"idle": [1.0], "after": [2.0]}}))
    assert report.variants(report.results(tmp_path)["memory"]) == ["idle", "after"]
