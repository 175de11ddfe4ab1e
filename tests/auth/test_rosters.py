"""Lists of new members, as spreadsheets and other systems write them."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwenge.auth.errors import RosterTooLong
from bwenge.auth.rosters import RosterRow, read_roster
from bwenge.kit.errors import BwengeError, Invalid

ALINE = RosterRow(2, name="Aline Uwase", username="aline.u", group="S1 A")
ERIC = RosterRow(3, name="Eric Mugabo", email="eric@x.rw")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("name,username,group\nAline Uwase,aline.u,S1 A\nEric Mugabo,eric@x.rw,\n", id="commas"),
        pytest.param(
            "\ufeffname;username|email;group\r\nAline Uwase;aline.u;S1 A\r\nEric Mugabo;Eric@X.rw;\r\n", id="Excel"
        ),
        pytest.param("NAME\tUsername\tEMAIL\tgroup\nAline Uwase\taline.u\t\tS1 A\nEric Mugabo\t\teric@x.rw", id="tabs"),
        pytest.param('group,"name",username\n"S1 A","Aline Uwase",aline.u\n,Eric Mugabo,eric@x.rw', id="other order"),
        pytest.param(
            "name , username|email , group,\n Aline Uwase , aline.u , S1 A ,\nEric Mugabo,eric@x.rw", id="loose"
        ),
    ],
)
def test_the_usual_ways_to_write_a_list_are_read(text: str) -> None:
    assert read_roster(text.encode()) == [ALINE, ERIC]


def test_empty_rows_are_left_out_and_counted_as_a_spreadsheet_does() -> None:
    rows = read_roster(b"name,username\n\nAline,aline.u\n,\nEric,eric.m\n")

    assert [(row.number, row.name) for row in rows] == [(3, "Aline"), (5, "Eric")]


def test_a_cell_may_hold_the_delimiter_in_quotes() -> None:
    [row] = read_roster(b'name,username\n"Uwase, Aline",aline.u\n')

    assert row.name == "Uwase, Aline"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (",aline.u,,", "a name has"),
        ("Aline,,,", "neither a username nor an email"),
        ("Aline,a,,", "a username has"),
        ("Aline,,aline,", "not an email address"),
        ("Aline,aline.u,,S1 A,surplus", "more cells"),
        ("\u202eenilA,aline.u,,", "control characters"),
        ("Aline,nul\x00byte,,", "a username has"),
    ],
)
def test_a_bad_row_says_what_is_wrong(line: str, reason: str) -> None:
    bad, good = read_roster(f"name,username,email,group\n{line}\nEric,eric.m,,\n".encode())

    assert reason in str(bad.refusal)
    assert good.refusal is None


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "columns"),
        (b"Aline,aline.u,S1\n", "columns"),
        (b"name,group\nAline,S1\n", "columns"),
        (b"name,username,age\nAline,aline.u,12\n", "columns"),
        (b"name,username,name\nAline,aline.u,12\n", "columns"),
        (b"name,username\n\n", "missing"),
        ("name,username\nH\u00e9l\u00e8ne,helene\n".encode("latin-1"), "encoding"),
        (b"name,username\n" + b"x" * 200_000, "csv_invalid"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused_as_a_whole(content: bytes, code: str) -> None:
    with pytest.raises(Invalid) as refusal:
        read_roster(content)

    assert [(finding["field"], finding["code"]) for finding in refusal.value.errors] == [("file", code)]


def test_a_thousand_rows_are_read_and_no_more() -> None:
    lines = "".join(f"M{number},m.{number}\n" for number in range(1_000))

    assert len(read_roster(f"name,username\n{lines}".encode())) == 1_000
    with pytest.raises(RosterTooLong):
        read_roster(f"name,username\n{lines}one,too.many\n".encode())


@given(
    st.binary(max_size=300)
    | st.text(max_size=300).map(lambda text: f"name,username\n{text}".encode("utf-8", "replace"))
)
def test_no_bytes_make_it_fail_otherwise(content: bytes) -> None:
    try:
        rows = read_roster(content)
    except BwengeError:
        return
    assert rows
    assert all(row.refusal is not None or row.email is not None or row.username is not None for row in rows)


@given(
    st.lists(st.tuples(st.sampled_from(["Aline", "Héllo; there", 'Uwase "A"', "Eric, M"]), st.integers(100, 999))),
    st.sampled_from([",", ";", "\t"]),
    st.booleans(),
)
def test_what_a_csv_writer_writes_is_read_back(
    members: list[tuple[str, int]],
    delimiter: str,
    has_mark: bool,  # noqa: FBT001  # hypothesis gives it
) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerow(["name", "username", "group"])
    writer.writerows([name, f"u.{number}", "S1"] for name, number in [("First", 100), *members])

    rows = read_roster(file.getvalue().encode("utf-8-sig" if has_mark else "utf-8"))

    assert [(row.name, row.username) for row in rows] == [
        (name, f"u.{number}") for name, number in [("First", 100), *members]
    ]
