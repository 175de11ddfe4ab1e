"""Mail by SMTP, to a server on this machine."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any, Final

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from bwenge.kit.mail import MailServer, MailUnavailable, NoMailer, SMTPMailer, mail_address
from tests.support.platform import free_port

SENDER: Final = "GS Kimironko <school@gs-kimironko.rw>"
PUPIL: Final = "aline@gs-kimironko.rw"
PASSWORD: Final = "ibanga/rya@cyane"
ENCODED: Final = "=?utf-8?q?x=0d=0aReply-To:_e@evil.rw=0d=0a=0d=0aPay_at_http://evil.rw?="
HEADERS: Final = {
    b"Auto-Submitted",
    b"Content-Transfer-Encoding",
    b"Content-Type",
    b"Date",
    b"From",
    b"MIME-Version",
    b"Message-ID",
    b"Subject",
    b"To",
}


class Received:
    """What arrived: aiosmtpd's handler."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.refusal: str | None = None
        self.was_encrypted = False

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  # its name
        if self.refusal is not None:
            return self.refusal
        self.was_encrypted = session.ssl is not None
        self.envelopes.append(envelope)
        return "250 OK"

    def message(self) -> EmailMessage:
        [envelope] = self.envelopes
        assert isinstance(envelope.content, bytes)
        parsed = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed


def _authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
    assert isinstance(given, LoginPassword)
    return AuthResult(success=(given.login, given.password) == (b"bwenge", PASSWORD.encode()))


@contextmanager
def _server(received: Received, **options: Any) -> Iterator[int]:
    port = free_port()
    controller = Controller(received, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


@pytest.fixture
def received() -> Received:
    return Received()


def _mailer(port: int, *, scheme: str = "smtp", user: str = "", query: str = "", **options: Any) -> SMTPMailer:
    return SMTPMailer(MailServer.from_url(f"{scheme}://{user}localhost:{port}{query}"), sender=SENDER, **options)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of the server, and of a client that trusts it."""
    key = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = signed.public_bytes(Encoding.PEM)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = tmp_path / "server.pem"
    path.write_bytes(private + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cadata=pem.decode())


async def test_a_mail_arrives_as_it_was_written(received: Received) -> None:
    text = "Muraho Aline,\n\nhttps://bwenge.rw/app/reset?token=" + "x" * 43 + "\n.\nÉcole\n"
    with _server(received) as port:
        await _mailer(port).send(to=PUPIL, subject="Ijambo ry’ibanga", text=text)

    message = received.message()
    assert (message["From"], message["To"], message["Subject"]) == (SENDER, PUPIL, "Ijambo ry’ibanga")
    assert message.get_content().replace("\r\n", "\n") == text
    assert message["Message-ID"].endswith("@gs-kimironko.rw>")
    assert message["Date"]
    assert received.envelopes[0].mail_from == "school@gs-kimironko.rw"
    assert received.envelopes[0].rcpt_tos == [PUPIL]


async def test_starttls_and_the_login_come_before_the_message(
    received: Received, certificate: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, client = certificate
    options = {"tls_context": server, "require_starttls": True, "auth_required": True, "authenticator": _authenticate}
    with _server(received, **options) as port:
        mailer = _mailer(port, user="bwenge:ibanga%2Frya%40cyane@", query="?starttls=1", tls=client)
        await mailer.send(to=PUPIL, subject="s", text="t")

    assert received.was_encrypted
    assert len(received.envelopes) == 1


async def test_a_server_whose_certificate_is_not_trusted_gets_nothing(
    received: Received, certificate: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    with _server(received, tls_context=certificate[0]) as port, pytest.raises(MailUnavailable):
        await _mailer(port, query="?starttls=1").send(to=PUPIL, subject="s", text="t")
    assert received.envelopes == []


async def test_a_server_without_starttls_gets_nothing_where_it_is_asked_for(received: Received) -> None:
    with _server(received) as port, pytest.raises(MailUnavailable):
        await _mailer(port, query="?starttls=1").send(to=PUPIL, subject="s", text="t")
    assert received.envelopes == []


async def test_smtps_is_encrypted_from_the_first_byte(
    received: Received, certificate: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, client = certificate
    with _server(received, ssl_context=server, server_hostname="localhost") as port:
        await _mailer(port, scheme="smtps", tls=client).send(to=PUPIL, subject="s", text="t")
    assert len(received.envelopes) == 1


@pytest.mark.parametrize("refusal", [f"550 no such user {PUPIL}", "451 try later"])
async def test_a_refusal_tells_nothing_of_whom_the_mail_was_for(received: Received, refusal: str) -> None:
    received.refusal = refusal
    with _server(received) as port, pytest.raises(MailUnavailable) as failure:
        await _mailer(port).send(to=PUPIL, subject="s", text="t")

    assert PUPIL not in str(failure.value)
    assert failure.value.__cause__ is None
    assert failure.value.__suppress_context__


class RefusingRecipients(Received):
    async def handle_RCPT(self, *_conversation: Any) -> str:  # noqa: N802  # its name
        return f"550 no such user {PUPIL}"


async def test_the_log_and_the_metrics_tell_why_a_mail_failed_and_of_nobody() -> None:
    refusing_message, refusing_recipients = Received(), RefusingRecipients()
    refusing_message.refusal = f"451 greylisted {PUPIL}"
    with _server(refusing_message) as first, _server(refusing_recipients) as second, capture_logs() as logs:
        mailers = [_mailer(first), _mailer(second), _mailer(free_port()), _mailer(second, user=f"u:{PASSWORD[:6]}@")]
        before = _count("failed")
        for mailer in mailers:
            with pytest.raises(MailUnavailable):
                await mailer.send(to=PUPIL, subject="s", text="t")

    assert [(line["event"], line["kind"], line["smtp_codes"]) for line in logs] == [
        ("mail_failed", "SMTPDataError", [451]),
        ("mail_failed", "SMTPRecipientsRefused", [550]),
        ("mail_failed", "ConnectionRefusedError", []),
        ("mail_failed", "SMTPNotSupportedError", []),
    ]
    assert not any(word in str(logs) for word in (PUPIL, PASSWORD[:6], "greylisted"))
    assert _count("failed") == before + 4


async def test_the_metrics_count_what_was_sent(received: Received) -> None:
    before = _count("sent")
    with _server(received) as port:
        await _mailer(port).send(to=PUPIL, subject="s", text="t")
    assert _count("sent") == before + 1


def _count(outcome: str) -> float:
    return REGISTRY.get_sample_value("bwenge_mails_total", {"outcome": outcome}) or 0.0


async def test_a_server_that_is_away_is_told_so() -> None:
    with pytest.raises(MailUnavailable):
        await _mailer(free_port()).send(to=PUPIL, subject="s", text="t")


async def test_a_server_that_says_nothing_is_given_up() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        mailer = _mailer(silent.getsockname()[1], timeout_seconds=0.1)
        with pytest.raises(MailUnavailable):
            await mailer.send(to=PUPIL, subject="s", text="t")


@pytest.mark.parametrize("breaks", ["\n", "\r\n", "\r"])
async def test_no_header_can_be_smuggled_in(received: Received, breaks: str) -> None:
    smuggled = f"x{breaks}Bcc: everybody@school.rw"
    with _server(received) as port:
        mailer = _mailer(port)
        for mail in ({"to": f"{PUPIL}{smuggled}", "subject": "s"}, {"to": PUPIL, "subject": smuggled}):
            with pytest.raises(MailUnavailable):
                await mailer.send(**mail, text="t")
        with pytest.raises(ValueError, match="address"):
            SMTPMailer(MailServer("localhost", port, "none"), sender=f"{smuggled} <a@b.rw>")
    assert received.envelopes == []


@pytest.mark.parametrize(
    "subject",
    [
        ENCODED,
        f"You are invited to {ENCODED} on Bwenge",
        f"École {ENCODED}",
        "=?utf-8?b?eA0KQmNjOiBldmVyeWJvZHlAc2Nob29sLnJ3?=",
        "=?utf-8?q?never ended",
        "Ibaruwa" + " ndende" * 30,
        "Ishuri ry’i Kigali" * 20,
    ],
)
async def test_an_encoded_word_is_a_text_like_any_other(received: Received, subject: str) -> None:
    with _server(received) as port:
        await _mailer(port).send(to=PUPIL, subject=subject, text="Muraho\n")

    assert isinstance(received.envelopes[0].content, bytes)
    head, _, body = received.envelopes[0].content.partition(b"\r\n\r\n")
    assert body == b"Muraho\r\n"
    assert {line.partition(b":")[0] for line in head.split(b"\r\n") if not line.startswith(b" ")} == HEADERS
    assert max(map(len, head.split(b"\r\n"))) <= 78
    assert received.message()["Subject"] == subject


async def test_an_encoded_word_in_a_persons_name_is_a_text_too(received: Received) -> None:
    with _server(received) as port:
        mailer = SMTPMailer(MailServer("localhost", port, "none"), sender=f"{ENCODED} <school@gs-kimironko.rw>")
        await mailer.send(to=f"École {ENCODED} <{PUPIL}>", subject="s", text="t")

    assert isinstance(received.envelopes[0].content, bytes)
    message = BytesParser(policy=policy.compat32).parsebytes(received.envelopes[0].content)
    shown = [str(make_header(decode_header(message[name]))) for name in ("From", "To")]
    assert shown == [f"{ENCODED} <school@gs-kimironko.rw>", f"École {ENCODED} <{PUPIL}>"]
    assert set(map(str.encode, message.keys())) == HEADERS
    assert (received.envelopes[0].mail_from, received.envelopes[0].rcpt_tos) == ("school@gs-kimironko.rw", [PUPIL])


async def test_what_cannot_be_written_as_mail_is_not_sent(received: Received) -> None:
    with _server(received) as port, pytest.raises(MailUnavailable):
        await _mailer(port).send(to=PUPIL, subject="\ud800", text="t")
    assert received.envelopes == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=?a?q?b?=@x.rw",
        "a.=?utf-8?q?b?=@x.rw",
        "aline",
        "@",
        "a@",
        "a@b@c",
        "a b@c.rw",
        "<a@b.rw",
        "a@b.rw, c@d.rw",
        "a@b.rw\x00",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an email address"):
        mail_address(text)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://localhost", MailServer("localhost", 25, "none")),
        ("smtp://mail.rw:2525", MailServer("mail.rw", 2525, "none")),
        ("smtps://u:p%40q@mail.rw", MailServer("mail.rw", 465, "tls", "u", "p@q")),
        ("smtp://u:p@mail.rw:587?starttls=1", MailServer("mail.rw", 587, "starttls", "u", "p")),
        ("smtp://u:p@127.0.0.1?starttls=0", MailServer("127.0.0.1", 25, "none", "u", "p")),
    ],
)
def test_an_address_of_a_server_is_read(url: str, server: MailServer) -> None:
    assert MailServer.from_url(url) == server
    assert "p@q" not in repr(MailServer.from_url(url))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mail.rw",
        "http://mail.rw",
        "smtp://",
        "smtp://mail.rw:port",
        "smtp://mail.rw:99999",
        "smtp://mail.rw/inbox",
        "smtp://mail.rw?starttls=yes",
        "smtp://mail.rw?tls=1",
        f"smtp://{PASSWORD[:4]}@mail.rw",
        "smtp://u:ibanga@mail.rw:587",
    ],
)
def test_another_form_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"needs the form|unencrypted") as failure:
        MailServer.from_url(url)
    assert "ibanga" not in str(failure.value)


async def test_without_a_server_nothing_leaves() -> None:
    await NoMailer().send(to=PUPIL, subject="s", text="t")

    assert not NoMailer.is_configured
