"""Mail leaves where BWENGE_SMTP_URL and BWENGE_MAIL_FROM say so."""

from bwenge.apps.resources import _mailer
from bwenge.apps.settings import Settings
from bwenge.kit.mail import NoMailer, SMTPMailer


def test_the_settings_choose_the_mailer() -> None:
    chosen = _mailer(Settings(_env_file=None, smtp_url="smtp://localhost:2525", mail_from="school@gs-kimironko.rw"))

    assert isinstance(chosen, SMTPMailer)
    assert (chosen.is_configured, chosen._server.port) == (True, 2525)


def test_without_them_nothing_is_mailed() -> None:
    assert isinstance(_mailer(Settings(_env_file=None)), NoMailer)
