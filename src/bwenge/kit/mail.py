"""Mail: how it is sent stands behind one interface, and an installation without a mail server says so."""

import asyncio
import re
import smtplib
import ssl
from dataclasses import dataclass, field
from email.charset import QP, Charset
from email.errors import MessageError
from email.header import Header
from email.headerregistry import Address
from email.mime.text import MIMEText
from email.utils import formatdate, make_msgid
from typing import Final, Protocol, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import structlog
from prometheus_client import Counter

from bwenge.kit.errors import Unavailable

TIMEOUT_SECONDS: Final = 15.0
"""For each step of a conversation with the server."""

_ADDRESS: Final = re.compile(r'(?P<bare>[^\s<>"]+@[^\s<>"]+)|(?P<name>[^<>"]*)<(?P<spec>[^\s<>"]+@[^\s<>"]+)>')
_PORTS: Final = {"smtp": 25, "smtps": 465}
_ENCODED_WORD: Final = "=?"
"""How one begins (RFC 2047, section 2)."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_UTF_8: Final = Charset("utf-8")
_UTF_8.body_encoding = QP


MAILS: Final = Counter("bwenge_mails_total", "Mails by whether the server took them", ["outcome"])

_log = structlog.get_logger(__name__)


class MailUnavailable(Unavailable):
    """The server is away or refused the message. Says nothing of whom it was for: refusals quote addresses."""

    title = "Mail cannot be sent at the moment"


class Mailer(Protocol):
    """Sends plain text to one person. Never inside a transaction."""

    @property
    def is_configured(self) -> bool:
        """Whether mail leaves this installation at all; where it does not, links and codes are shown instead."""
        ...

    async def send(self, *, to: str, subject: str, text: str) -> None:
        """Hand the message over.

        Raises:
            MailUnavailable: Also where the address is none, or no mail can be written of what is given.
        """
        ...


class NoMailer:
    """Of an installation without a mail server: nothing is sent."""

    is_configured = False

    async def send(self, *, to: str, subject: str, text: str) -> None:
        """Nothing leaves."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """Attributes: security: `tls` from the first byte on, `starttls` before anything is said, or `none`."""

    host: str
    port: int
    security: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """From `smtp://user:password@host:587?starttls=1` or `smtps://…`; raises ValueError for any other form.

        A password over a connection that is not encrypted is refused but for this machine's own server.
        """
        refusal = ValueError("needs the form smtp://user:password@host:587?starttls=1 or smtps://user:password@host")
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS[parts.scheme]
        except (ValueError, KeyError):
            raise refusal from None
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if not parts.hostname or parts.path.strip("/") or options.keys() - {"starttls"}:
            raise refusal
        wants_starttls = options.get("starttls", "0")
        if wants_starttls not in {"0", "1"} or (parts.username is None) != (parts.password is None):
            raise refusal
        security = "tls" if parts.scheme == "smtps" else "starttls" if wants_starttls == "1" else "none"
        if parts.password and security == "none" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
            raise ValueError("would send its password unencrypted; add ?starttls=1 or use smtps://")
        username, password = (None if part is None else unquote(part) for part in (parts.username, parts.password))
        return cls(parts.hostname, port, security, username, password)


class SMTPMailer:
    """Args: sender: `school@example.rw` or `A School <school@example.rw>`."""

    is_configured = True

    def __init__(
        self,
        server: MailServer,
        *,
        sender: str,
        timeout_seconds: float = TIMEOUT_SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._server = server
        self._sender = mail_address(sender)
        self._timeout_seconds = timeout_seconds
        self._tls = tls or ssl.create_default_context()

    async def send(self, *, to: str, subject: str, text: str) -> None:
        try:
            recipient = mail_address(to)
            message = self._written(recipient, subject, text)
            await asyncio.to_thread(self._deliver, message, recipient.addr_spec)
        # The library that writes the message raises the last two.
        except (OSError, smtplib.SMTPException, MessageError, ValueError) as error:
            MAILS.labels(outcome="failed").inc()
            _log.warning("mail_failed", kind=type(error).__name__, smtp_codes=_codes(error))
            # Without its cause, whose text may quote the address or what the server says of it.
            raise MailUnavailable from None
        MAILS.labels(outcome="sent").inc()

    def _written(self, recipient: Address, subject: str, text: str) -> MIMEText:
        """In the library's older form of messages: the newer one decodes what it is given for a header."""
        message = MIMEText(text, "plain", _UTF_8)  # type: ignore[arg-type]  # it takes a Charset too
        message["From"] = _mailbox("From", self._sender)
        message["To"] = _mailbox("To", recipient)
        message["Subject"] = _header("Subject", subject).encode()
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self._sender.domain)
        message["Auto-Submitted"] = "auto-generated"
        return message

    def _deliver(self, message: MIMEText, recipient: str) -> None:
        with self._connect() as connection:
            if self._server.security == "starttls":
                connection.starttls(context=self._tls)
            if self._server.username is not None and self._server.password is not None:
                connection.login(self._server.username, self._server.password)
            connection.send_message(message, self._sender.addr_spec, [recipient])

    def _connect(self) -> smtplib.SMTP:
        host, port = self._server.host, self._server.port
        if self._server.security == "tls":
            return smtplib.SMTP_SSL(host, port, timeout=self._timeout_seconds, context=self._tls)
        return smtplib.SMTP(host, port, timeout=self._timeout_seconds)


def mail_address(text: str) -> Address:
    """`name <local@domain>` or the bare address. Raises ValueError for all else, and for control characters."""
    found = _ADDRESS.fullmatch(text) if text.isprintable() else None
    spec = "" if found is None else found["bare"] or found["spec"]
    if found is None or _ENCODED_WORD in spec:
        raise ValueError("this is not an email address")
    try:
        return Address(display_name=(found["name"] or "").strip(), addr_spec=spec)
    # The library's parser raises each of these for something that it cannot read.
    except (MessageError, ValueError, IndexError) as error:
        raise ValueError("this is not an email address") from error


def _codes(error: Exception) -> list[int]:
    """What the server answered, as numbers (RFC 5321, section 4.2); its words may quote the address."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return [code for code, _words in error.recipients.values()]
    return [error.smtp_code] if isinstance(error, smtplib.SMTPResponseException) else []


def _mailbox(field_name: str, address: Address) -> str:
    """`name <local@domain>`, or the bare address of somebody without a name."""
    if not address.display_name:
        return address.addr_spec
    # What is encoded needs no quotation marks; the library sets them around other names where these need any.
    quoted = str(address).removesuffix(f" <{address.addr_spec}>")
    header = _header(field_name, address.display_name if _needs_encoding(quoted) else quoted)
    header.append(f"<{address.addr_spec}>", "us-ascii")
    return header.encode()


def _header(field_name: str, text: str) -> Header:
    """Text that arrives as it is: an encoded word in it is encoded once more, and none is decoded.

    Raises ValueError for control characters.
    """
    if _CONTROL.search(text):
        raise ValueError("a header holds no control characters")
    return Header(text, "utf-8" if _needs_encoding(text) else "us-ascii", header_name=field_name)


def _needs_encoding(text: str) -> bool:
    return not text.isascii() or _ENCODED_WORD in text
