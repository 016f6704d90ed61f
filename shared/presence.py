"""Where an account is connected, in all organisations: for providers that know one consent and one push each.

Nobody is told of another organisation's: it only decides what is ended at the provider, and who is looked at.
"""

from shared.model import PLATFORM, Presence
from shared.storage.base import Records, Remove, Save, every

Place = tuple[str, str]
"""Organisation and mailbox."""


def note(records: Records, account: str, place: Place) -> None:
    """Remember that the account is connected there.

    Called before it is used, so none is ever missing; and after its grant is kept, because nobody may ever
    come back to a sign-in that broke off, and what has no grant would keep a consent alive that others end.
    """
    records.commit(PLATFORM, Save(Presence(account, *place)))


def forget(records: Records, account: str, place: Place) -> None:
    """It no longer is."""
    records.commit(PLATFORM, Remove(Presence(account, *place)))


def places(records: Records, account: str) -> list[Place]:
    """Return where the account is connected."""
    found = every(records, PLATFORM, Presence, prefix=f"{account}!")
    return [(stored.value.org_id, stored.value.mailbox_id) for stored in found]
