"""The composition root: the one place that sees web, gateway and storage, and puts them together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from gateway import cli, commands, letter_commands  # noqa: F401 - commands register themselves

if TYPE_CHECKING:
    from gateway.counter import Counter
    from gateway.office import Office
    from gateway.running import Portal


def make_portal(
    counter: Counter,
    office: Office,
    health: Callable[[], Awaitable[bool]],
    mailbox: Any = None,
    *,
    shared: bool = False,
) -> Portal:
    """The web server of a gateway."""
    from web.app import make_app
    from web.serve import Server

    settings = office.settings
    https = settings.gateway.public_url.startswith("https://")
    app = make_app(counter, office.house, office.clock, https=https, mailbox=mailbox, health=health)
    listen = settings.web.listen
    if listen is None:
        raise ValueError("no portal without [web] listen")
    return Server(app, listen.host, listen.port, settings.web.tls_cert, settings.web.tls_key, shared=shared)


def main() -> None:
    """The command `pli`."""
    cli.cli(obj=cli.Context(make_portal), prog_name="pli")


if __name__ == "__main__":
    main()
