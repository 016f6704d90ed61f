"""Every secret that the sandbox's parts gave out or were shown, for the proof that none of them leaks."""

from sandbox.world import World

SHORTEST = 8
"""Characters: shorter ones are found in any text by chance."""


def of(world: World) -> set[str]:
    """Return passwords, tokens, codes, assertions, client secrets, and all that ever lay in the vault."""
    given = {*world.dovecot.passwords.values()}
    for part in vars(world).values():
        given |= getattr(part, "secrets_seen", set())
    return {secret for secret in given if len(secret) >= SHORTEST}
