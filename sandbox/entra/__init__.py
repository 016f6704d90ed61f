"""Entra ID on the wire, as MSAL and browsers speak to it: sign-in, consent, tokens, errors with AADSTS codes.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow. The pages need no script.
"""

from sandbox.entra.server import Entra
from sandbox.entra.signing import Access

__all__ = ["Access", "Entra"]
