"""Keeps the README's generated tables true: `python -m tests.readme` rewrites them, a test compares."""

import re
from pathlib import Path

from shared import powers, settings
from shared.providers import registry

README = Path(__file__).parents[1] / "README.md"


def rendered(text: str) -> str:
    """Return the README with its tables made anew."""
    for name, table in {"settings": _settings(), "systems": _systems()}.items():
        place = re.compile(rf"(<!-- {name}:[^>]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, count = place.subn(lambda found, made=table: found[1] + made + found[2], text)
        assert count == 1, f"README has no place for {name}"
    return text


def _settings() -> str:
    rows = [f"| `{name}` | {presence} | {purpose} |" for name, presence, purpose in settings.table()]
    return "\n".join(["| setting | default | what it is for |", "|---|---|---|", *rows, ""])


def _systems() -> str:
    heads = ["system", *powers.HEADINGS.values(), "users sign in"]
    rows = []
    for name in registry.names():
        provider = registry.provider(name)
        can = powers.of_provider(provider)
        pointless = set() if can["receive"] else {"sent", "copy", "search", "push"}
        pointless |= set() if can["send"] else {"draft"}
        cells = ["-" if power in pointless else "yes" if can[power] else "no" for power in powers.HEADINGS]
        rows.append(
            [
                f"{provider.title} (`{name}`)",
                *cells,
                "at the provider"
                if provider.oauth
                else f"with a password{' or token' if provider.tokens else ''}",
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, ["---"] * len(heads), *rows]) + "\n"


if __name__ == "__main__":
    README.write_text(rendered(README.read_text()))
