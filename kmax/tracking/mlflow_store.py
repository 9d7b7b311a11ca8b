"""The project's MLflow store from the command line: `kmax track sync` and `kmax track ui`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from kmax import paths
from kmax.errors import InputError, unknown_name
from kmax.tracking import events
from kmax.tracking.mlflow_mirror import SWITCHES, Mirror, require_mlflow, tracking_uri
from kmax.urls import without_credentials, without_secrets


@dataclass(frozen=True)
class Sent:
    """The outcome of `sync`.

    Attributes:
        events: `<run>/<digest>` -> number of events sent.
        skipped: files that can no longer be sent, and why.
    """

    events: dict[str, int] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """One line per state folder and per skipped file."""
        sent = [f"{name}: {count} events sent" for name, count in sorted(self.events.items())]
        return [*sent, *(f"not sent: {reason}" for reason in self.skipped)]


def sync(runs: Sequence[str] = ()) -> Sent:
    """Send the events of `runs` (default: of all runs) that the store lacks.

    Raises:
        InputError: an unknown run, MLflow is not installed, or the store cannot be reached.
    """
    require_mlflow()
    logs = sorted(paths.STATE.glob(f"*/*/{events.FILE_NAME}"))
    tracked = {log.parent.parent.name for log in logs}
    for run in runs:
        if run not in tracked:
            raise unknown_name("run", run, tracked, str(paths.STATE))
    wanted = [log.parent for log in logs if not runs or log.parent.parent.name in runs]
    mirror = Mirror(tracking_uri())
    sent = Sent(skipped=mirror.skipped)
    for state in wanted:
        try:
            sent.events[f"{state.parent.name}/{state.name}"] = mirror.replay(state)
        except InputError:
            raise
        except Exception as error:
            reason = " ".join(without_secrets(str(error), mirror.uri).split())[:200]
            raise InputError(f"tracking store {without_credentials(mirror.uri)} failed: {reason}") from error
    return sent


def server_command(port: int, host: str = "127.0.0.1") -> list[str]:
    """The command of MLflow's server for the project's embedded store, on the loopback interface by default.

    The store's URI, which may contain a password, is in `server_environment`: the arguments of a process
    are visible to all users of the machine.

    Raises:
        InputError: MLflow is not installed, or MLFLOW_TRACKING_URI is a server, which has its own page.
    """
    require_mlflow()
    uri = tracking_uri()
    if uri.startswith(("http://", "https://")):
        raise InputError(f"MLFLOW_TRACKING_URI is a server: open {without_credentials(uri)} in a browser")
    options = ["--host", host, "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", "server", *options]


def server_environment() -> dict[str, str]:
    """The environment of the server: the URI of its store, and telemetry switched off."""
    return {**os.environ, **SWITCHES, "MLFLOW_BACKEND_STORE_URI": tracking_uri()}


def serve(port: int = 5000, host: str = "127.0.0.1") -> None:
    """Serve the page until interrupted."""
    command = server_command(port, host)
    print(f"http://{host}:{port}", flush=True)
    server = subprocess.Popen(
        command,
        env=server_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        for line in server.stdout or ():
            print(without_secrets(line, tracking_uri()), end="", file=sys.stderr, flush=True)
        code = server.wait()
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C; SIGTERM, which unwinds as an exit
        server.terminate()
        server.wait()
        raise
    if code:
        raise InputError(f"the MLflow server ended with code {code} (is port {port} in use?)")
