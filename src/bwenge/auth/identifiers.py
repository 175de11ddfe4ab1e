"""How members are named: email addresses, usernames and display names, in one written form each.

The functions that normalise return what they map to itself, and raise ValueError with a sentence for the client.
"""

import re
import unicodedata
from typing import Final

from bwenge.kit.visible import holds_controls, is_visible

MAX_EMAIL_LENGTH: Final = 254
"""RFC 5321 allows a path of 256 octets, two of which are the angle brackets."""
MAX_NAME_LENGTH: Final = 120
MAX_COMPOSED_PARTS: Final = 4
"""As many characters as the longest canonical decomposition of one, such as U+1F82, has."""

# The local part is RFC 5322's dot-atom; the domain is RFC 1123's host name with at least two labels. Quoted local
# parts, address literals and internationalised addresses (RFC 6531) are valid elsewhere and refused here.
_ATOM: Final = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_EMAIL: Final = re.compile(rf"(?P<local>{_ATOM}(?:\.{_ATOM})*)@{_LABEL}(?:\.{_LABEL})+")
_USERNAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{1,62})[A-Za-z0-9]")


def fold_identifier(identifier: str) -> str:
    """One form for all spellings that name one account, known or not; for looking up and for counting alike.

    PostgreSQL's `lower` makes ASCII of letters that Python's does not, and the other way about.
    """
    return identifier.strip().lower()


def normalize_email(email: str) -> str:
    """Lower-cased, because the providers of our members' mailboxes do not tell letters' cases apart.

    An atom that begins an encoded word (RFC 2047) is refused: mail cannot be sent there.
    """
    normal = fold_identifier(email)
    match = _EMAIL.fullmatch(normal) if len(normal) <= MAX_EMAIL_LENGTH else None
    if match is None or len(match["local"]) > 64 or "=?" in normal:
        raise ValueError("this is not an email address")
    return normal


def normalize_username(username: str) -> str:
    """Kept as written; the database compares usernames without regard to case. Never holds an `@`."""
    normal = username.strip()
    if not _USERNAME.fullmatch(normal):
        raise ValueError(
            "a username has 3 to 64 letters, digits, dots, hyphens or underscores, with a letter or digit at each end"
        )
    return normal


def normalize_name(name: str) -> str:
    """One line in Unicode's composed form, with something to see, and nothing that reorders what stands around it."""
    # Before composing, which takes time by the square of a run of combining marks. A name may be as long decomposed.
    fits = len(name) <= MAX_COMPOSED_PARTS * MAX_NAME_LENGTH
    normal = unicodedata.normalize("NFC", name).strip() if fits else ""
    if not 1 <= len(normal) <= MAX_NAME_LENGTH:
        raise ValueError(f"a name has 1 to {MAX_NAME_LENGTH} characters")
    if holds_controls(normal):
        raise ValueError("a name holds no control characters")
    if not is_visible(normal):
        raise ValueError("a name holds a visible character")
    return normal
