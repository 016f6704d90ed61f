"""Keeps the README's generated tables true: `python -m tests.readme` rewrites them, a test compares."""

import re
from pathlib import Path

from shared.settings import table

README = Path(__file__).parents[1] / "README.md"
_TABLE = re.compile(r"(<!-- settings:[^>]*-->\n).*?(<!-- /settings -->)", re.DOTALL)


def rendered(text: str) -> str:
    """Return the README with its settings table made anew."""
    rows = "\n".join(f"| `{name}` | {presence} | {purpose} |" for name, presence, purpose in table())
    made = f"| setting | default | what it is for |\n|---|---|---|\n{rows}\n"
    return _TABLE.sub(lambda found: found[1] + made + found[2], text)


if __name__ == "__main__":
    README.write_text(rendered(README.read_text()))
