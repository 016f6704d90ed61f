"""Whether a copy says what is kept of a mail."""

from email.message import EmailMessage
from email.policy import SMTP

import pytest

from shared.comparing import is_within, said

pytestmark = pytest.mark.fast


def mail(text="Our price is 100.\nRegards", html=None, files=(), **options):
    message = EmailMessage()
    message["Subject"] = "Offer"
    message.set_content(text, **options)
    if html:
        message.add_alternative(html, subtype="html")
    for name, content in files:
        message.add_attachment(content, maintype="application", subtype="pdf", filename=name)
    return message.as_bytes(policy=SMTP)


@pytest.mark.parametrize(
    "copy",
    [
        mail("Our  price is\n100.\n\nRegards\n"),
        mail(cte="base64"),
        mail(cte="quoted-printable", charset="iso-8859-1"),
        b"Received: from x\r\n" + mail(),
    ],
    ids=["lines", "base64", "charset", "trace"],
)
def test_a_copy_says_the_same_however_it_is_written(copy):
    assert said(copy) == said(mail())


@pytest.mark.parametrize(
    ("copy", "kept"),
    [
        (mail(), mail("Our price is 100.\nRegards\n--\nA footer")),
        (mail(), mail("[EXTERNAL]\nOur price is 100.\nRegards")),
        (mail(html="<p>Our price</p>"), mail(html="<i>From outside</i><p>Our price</p><hr>A footer")),
    ],
    ids=["footer", "banner", "both"],
)
def test_what_lacks_a_footer_or_a_banner_says_no_more(copy, kept):
    assert is_within(said(copy), said(kept))
    assert not is_within(said(kept), said(copy))


@pytest.mark.parametrize(
    ("copy", "kept"),
    [
        (mail("Our price is 100"), mail("Our price is 1000")),
        (mail("Our price is 100."), mail("Our price is not 100.")),
        (mail(html="<p>100</p>"), mail(html="<p>200</p>")),
        (mail(html="<p>100</p>"), mail()),
        (mail(files=[("a.pdf", b"100")]), mail(files=[("a.pdf", b"200")])),
        (mail(files=[("a.pdf", b"100")]), mail(files=[("b.pdf", b"100")])),
        (mail(files=[("a.pdf", b"100")]), mail()),
        (mail(), mail(files=[("a.pdf", b"100")])),
    ],
    ids=["a word", "in between", "html", "html only", "file", "name", "one more file", "one file less"],
)
def test_another_word_or_file_is_something_else(copy, kept):
    assert not is_within(said(copy), said(kept))


def test_the_order_of_files_is_no_difference():
    files = [("a.pdf", b"1"), ("b.pdf", b"2")]
    assert said(mail(files=files)) == said(mail(files=files[::-1]))
