"""Graph's description, which lies beside the checkout in CI; a test in which it was not followed fails."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.graph import Graph
from sandbox.graph.contract import Contract

PATH = Path(__file__).parents[2] / "shared" / "graph-mail-openapi.json"


def install(graph: Graph) -> None:
    """Hold a Graph against the description; where that is missing, say so at the end of the run."""
    if PATH.exists():
        graph.contract = Contract(PATH)
    else:
        warnings.warn(f"no {PATH}: what Graph was asked and answered was not checked", stacklevel=2)


def check(graph: Graph) -> None:
    """Fail where the description was not followed, and forget it."""
    if graph.contract:
        found, graph.contract.violations[:] = list(dict.fromkeys(graph.contract.violations)), []
        assert not found, "\n".join(["not as Microsoft describes Graph:", *found])


@contextmanager
def broken(graph: Graph) -> Iterator[None]:
    """Ask for what Graph does not have; that has to be noticed, and is forgiven."""
    yield
    if graph.contract:
        assert graph.contract.violations, "the description was followed"
        graph.contract.violations.clear()
