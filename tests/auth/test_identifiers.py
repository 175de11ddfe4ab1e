import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwenge.auth.identifiers import normalize_email, normalize_name, normalize_username
from bwenge.kit.mail import mail_address


@pytest.mark.parametrize(
    ("given_form", "normal"),
    [
        ("Aline@GS-Kimironko.RW", "aline@gs-kimironko.rw"),
        (" a@b.rw ", "a@b.rw"),
        ("first.last+tag@mail.example.co.rw", "first.last+tag@mail.example.co.rw"),
        ("o'neil@example.org", "o'neil@example.org"),
        (f"{'x' * 64}@example.org", f"{'x' * 64}@example.org"),
        ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
    ],
)
def test_email_addresses_have_one_form(given_form: str, normal: str) -> None:
    assert normalize_email(given_form) == normal


@pytest.mark.parametrize(
    "email",
    [
        "",
        "aline",
        "@example.org",
        "aline@",
        "aline@localhost",
        "a b@example.org",
        "a@b@example.org",
        ".a@example.org",
        "a.@example.org",
        "a..b@example.org",
        "a@-example.org",
        "a@example-.org",
        "a@example..org",
        "a@example.org.",
        "a@example.org\n\nBcc: b@example.org",
        "a@example.org\x00",
        '"a b"@example.org',
        "a@[127.0.0.1]",
        "é@example.org",
        "=?a?q?b?=@example.org",
        "a.=?utf-8?q?b?=@example.org",
        "İ@example.org",
        f"{'x' * 65}@example.org",
        f"a@{'x' * 64}.org",
        f"a@{'x.' * 130}org",
    ],
)
def test_what_is_no_email_address_is_refused(email: str) -> None:
    with pytest.raises(ValueError, match="not an email address"):
        normalize_email(email)


@pytest.mark.parametrize("username", ["keza", "Keza.P5", "a-1", "2026_mugisha", "x" * 64])
def test_usernames_are_kept_as_written(username: str) -> None:
    assert normalize_username(username) == username


@pytest.mark.parametrize("username", ["", "ab", "x" * 65, ".keza", "keza.", "ke za", "keza@school", "kéza", "keza\n.a"])
def test_what_is_no_username_is_refused(username: str) -> None:
    with pytest.raises(ValueError, match="a username has"):
        normalize_username(username)


def test_names_are_composed_and_trimmed() -> None:
    assert normalize_name("  Ange\u0301lique ") == "Ang\u00e9lique"


@pytest.mark.parametrize(
    "name", ["", " ", "x" * 121, "two\nlines", "tab\tbed", "\u202ereversed", "a\u2028b", "\x7fdel"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a name"):
        normalize_name(name)


@pytest.mark.parametrize("name", ["\u200b", "\u3164", "\u2060", "\u034f", "\U000e0041", "\u200b \u2060"])
def test_a_name_without_anything_to_see_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a name holds a visible character"):
        normalize_name(name)


@pytest.mark.parametrize("control", [*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))])
def test_a_name_holds_nothing_that_reorders_it(control: str) -> None:
    with pytest.raises(ValueError, match="a name holds no control characters"):
        normalize_name(f"Keza{control}M")


@pytest.mark.parametrize("name", ["می\u200cخواهم", "क्\u200dष", "\U0001f469\u200d\U0001f3eb", "王", "7"])
def test_names_of_every_script_are_names_and_keep_their_joiners(name: str) -> None:
    assert normalize_name(name) == name


def test_a_name_may_be_longer_before_it_is_composed() -> None:
    assert normalize_name("e\u0323\u0302" * 120) == "\u1ec7" * 120


@pytest.mark.timeout(20)  # composing so many marks takes minutes
def test_a_name_of_combining_marks_is_refused_before_it_is_composed() -> None:
    with pytest.raises(ValueError, match="a name"):
        normalize_name("\u0300\u0316" * 250_000)


@given(st.emails())
def test_a_normal_email_address_is_its_own_form(email: str) -> None:
    try:
        normal = normalize_email(email)
    except ValueError:
        return
    assert normalize_email(normal) == normal


@given(st.from_regex(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]{1,12}@[a-z0-9]{1,6}\.rw", fullmatch=True))
def test_mail_can_be_addressed_to_every_normal_email_address(email: str) -> None:
    try:
        normal = normalize_email(email)
    except ValueError:
        return
    assert mail_address(normal).addr_spec == normal


@given(st.text())
def test_a_normal_name_is_its_own_form(name: str) -> None:
    try:
        normal = normalize_name(name)
    except ValueError:
        return
    assert normalize_name(normal) == normal
