from tests.providers.parts import (  # noqa: F401 - fixtures
    _no_faults,
    _trust,
    alice,
    authority,
    server,
    tls,
    wire,
)
