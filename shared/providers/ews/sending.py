"""Sending at Exchange as MIME, so that Message-ID, References and every header are ours to choose.

Exchange takes the recipients from the mail itself, Bcc too, and files the copy in Sent Items.
"""

from collections.abc import Callable, Sequence

from shared import mime
from shared.errors import NotFound, Rejected
from shared.providers.base import Receipt
from shared.providers.ews.calls import Session
from shared.providers.transport import handing_over


class EwsSender(Session):
    """Sender of `base` over EWS."""

    def check(self) -> None:
        """See `Sender.check`. Whether it may send as the mailbox shows only in sending."""
        self.folder_ids(["sentitems"])

    def send(
        self,
        raw: bytes,
        envelope_from: str,  # noqa: ARG002 - Exchange sends as the mailbox itself
        envelope_to: Sequence[str],
        commit: Callable[[], None],
    ) -> Receipt:
        """See `Sender.send`. What Exchange refuses did not leave, unless the error is its own."""
        addressed = mime.with_bcc(raw, envelope_to)
        self.check()  # connection and sign-in can fail without consequence before `commit`
        commit()
        try:
            with handing_over("Exchange"):
                self.create(addressed)
        except NotFound as error:
            raise Rejected("Exchange does not find the mailbox's Sent Items.") from error
        return Receipt()

    @property
    def files_copy(self) -> bool:
        """See `Sender.files_copy`."""
        return True
