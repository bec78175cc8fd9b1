"""A PostgreSQL server of the tests' own: one per pytest process, on a free port, gone when the process ends.

`server()` starts it at the first call, `new_database()` makes an empty database in it. PLI_TEST_ENGINE (sqlite, postgres) says
which engine the fixtures use. The server runs as the user postgres where we are root, since PostgreSQL refuses root.
"""

from __future__ import annotations

import atexit
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from tests.needs import lacking

ENGINE = os.environ.get("PLI_TEST_ENGINE", "sqlite")
if ENGINE not in ("sqlite", "postgres"):
    raise ValueError(f"PLI_TEST_ENGINE={ENGINE}: must be sqlite or postgres")
USER = "pli"
PASSWORD = "a test/s:password@"  # every character that a URL must quote
_MEND = "apt-get install postgresql"


@dataclass
class Server:
    """A private server. `stop`, `start` and `restart` are for tests of what happens to those who use it."""

    bin: Path
    folder: Path
    port: int

    @property
    def url(self) -> str:
        """postgres://user:password@host:port/name of the database `postgres`, as a superuser."""
        return f"postgres://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/postgres"

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return as_postgres([str(self.bin / "pg_ctl"), "-D", str(self.folder / "data"), "-w", "-t", "30", *words])

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='{self.folder}'"
        self.ctl("-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        self.ctl("-m", mode, "stop")

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def run(self, sql: str, database: str = "postgres") -> str:
        """Run SQL with psql; returns its rows, one line each, columns parted by |."""
        psql = [str(self.bin / "psql"), "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder)]
        return as_postgres([*psql, "-p", str(self.port), "-U", USER, "-d", database, "-c", sql]).stdout.strip()


_server: Server | None = None


def server() -> Server:
    """The one of this process, started at the first call. Skips, or fails in CI, where PostgreSQL is not installed."""
    global _server  # noqa: PLW0603 - one per process is the point
    if _server is None:
        _server = private_server()
    return _server


def private_server() -> Server:
    """A server for one test that stops and starts it; ended with the process at the latest."""
    made = Server(_programs(), Path(tempfile.mkdtemp(prefix="pli-pg-", dir="/tmp")), _free_port())
    made.folder.chmod(0o755)
    atexit.register(_end, made)
    if os.getuid() == 0:
        found = pwd.getpwnam("postgres")
        os.chown(made.folder, found.pw_uid, found.pw_gid)
    password = made.folder / "password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o644)
    options = ["--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
    initdb = [str(made.bin / "initdb"), "-D", str(made.folder / "data"), "-U", USER, f"--pwfile={password}"]
    as_postgres([*initdb, *options])
    made.start()
    return made


def new_database(on: Server | None = None) -> str:
    """The URL of a fresh, empty database."""
    name = f"pli_{secrets.token_hex(6)}"
    on = on or server()
    on.run(f"CREATE DATABASE {name}")
    return with_name(on.url, name)


def copy_of(url: str, on: Server | None = None) -> str:
    """The URL of a new database that is a copy of *url*'s, which nobody may have open."""
    name = f"pli_{secrets.token_hex(6)}"
    on = on or server()
    on.run(f"CREATE DATABASE {name} TEMPLATE {name_of(url)}")
    return with_name(on.url, name)


def drop(url: str, on: Server | None = None) -> None:
    (on or server()).run(f"DROP DATABASE IF EXISTS {name_of(url)} WITH (FORCE)")


def name_of(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


def with_name(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        lacking("PostgreSQL", _MEND)
    return found[-1]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def as_postgres(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a program of PostgreSQL as a user that it accepts. Raises RuntimeError with what it said."""
    prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    # The server inherits no pipe of ours: pg_ctl would wait for ever for its end.
    with tempfile.TemporaryFile("w+") as out:
        code = subprocess.run(
            [*prefix, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/", check=False, timeout=90
        ).returncode
        out.seek(0)
        said = out.read()
    if code != 0:
        raise RuntimeError(f"{Path(command[0]).name} failed ({code}): {said}")
    return subprocess.CompletedProcess(command, code, said, "")


def _end(made: Server) -> None:
    with suppress(RuntimeError, subprocess.TimeoutExpired):  # it was stopped before
        made.stop("immediate")
    shutil.rmtree(made.folder, ignore_errors=True)
