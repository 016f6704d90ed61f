"""Route templates."""

import pytest

from sandbox.host.config import ConfigError
from sandbox.host.routes import conflicts, parse, route
from sandbox.host.worker import Function

pytestmark = pytest.mark.fast


def http(name: str, template: str | None, *methods: str) -> Function:
    trigger = {"type": "httpTrigger", "name": "req", "methods": list(methods), "authLevel": "FUNCTION"}
    return Function(name, name, ({**trigger, "route": template} if template else trigger,))


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("", "/", ()),
        ("a/b", "/A/b/", ()),
        ("a/{x}", "/a/1", ("1",)),
        ("a/{x:int}", "/a/-1", ("-1",)),
        ("a/{x:guid}", "/a/0F8FAD5B-D9CB-469F-A165-70867728950E", ("0F8FAD5B-D9CB-469F-A165-70867728950E",)),
        ("a/{x}.{y}", "/a/name.txt", ("name", "txt")),
        ("a/{x?}", "/a", (None,)),
        ("a/{*x}", "/a/b/c", ("b/c",)),
        ("a.b/{x}", "/a.b/c", ("c",)),
    ],
)
def test_a_path_fits_its_template(template: str, path: str, values: tuple[str | None, ...]):
    match = parse(template).pattern.fullmatch(path)
    assert match
    assert match.groups() == values


@pytest.mark.parametrize(
    ("template", "path"),
    [("a/{x}", "/a"), ("a/{x}", "/a/b/c"), ("a/{x:int}", "/a/b"), ("a.b", "/axb"), ("a/{x:bool}", "/a/1")],
)
def test_a_path_does_not_fit_another_template(template: str, path: str):
    assert not parse(template).pattern.fullmatch(path)


@pytest.mark.parametrize(
    "template",
    [
        "a/{x",
        "a/x}",
        "a//b",
        "a/{x?}/b",
        "a/{*x}/b",
        "a/{x}/{X}",
        "a/{x:regex(^a$)}",
        "a/{x=1}",
        "a/b?",
        "a/{}",
        "a-{x?}",
    ],
)
def test_a_template_that_cannot_be_read_is_refused(template: str):
    with pytest.raises(ConfigError):
        parse(template)


def test_a_route_defaults_to_the_function_name():
    assert route(http("hello", None), "api").match("/api/hello") == {}


@pytest.mark.parametrize("template", ["admin/users", "Administrator", "/runtime/x", "runtimes"])
def test_the_hosts_own_prefixes_are_refused(template: str):
    with pytest.raises(ConfigError, match="reserved"):
        route(http("f", template), "api")


def test_two_functions_of_one_path_and_method_conflict_whatever_their_parameters_are_called():
    routes = [route(http("a", "x/{id}", "GET", "POST"), ""), route(http("b", "X/{name}", "post"), "")]
    assert conflicts(routes) == ["b has the route and a method of a"]


def test_a_function_without_methods_takes_all():
    routes = [route(http("a", "x"), ""), route(http("b", "x", "GET"), "")]
    assert conflicts(routes) == ["b has the route and a method of a"]


def test_other_methods_or_constraints_do_not_conflict():
    routes = [
        route(http("a", "x/{id}", "GET"), ""),
        route(http("b", "x/{id}", "PUT"), ""),
        route(http("c", "x/{id:int}", "GET"), ""),
    ]
    assert conflicts(routes) == []
