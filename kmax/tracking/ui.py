"""`kmax track ui`: MLflow's web page on the project's store."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

from kmax.errors import InputError
from kmax.tracking.mlflow_mirror import SWITCHES, tracking_uri


def server_command(port: int, host: str = "127.0.0.1") -> list[str]:
    """The command of MLflow's server on the project's embedded store, bound to this machine by default.

    Raises:
        InputError: MLflow is missing, or MLFLOW_TRACKING_URI names a server, which has a page of its own.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise InputError('mlflow is not installed; install it with: pip install "kmax[engines]"')
    uri = tracking_uri()
    if uri.startswith(("http://", "https://")):
        raise InputError(f"MLFLOW_TRACKING_URI is a server: open {uri} in a browser")
    options = ["--backend-store-uri", uri, "--host", host, "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", "server", *options]


def server_environment() -> dict[str, str]:
    """The environment with telemetry switched off."""
    return {**os.environ, **SWITCHES}


def serve(port: int = 5000, host: str = "127.0.0.1") -> None:
    """Serve the page until interrupted."""
    command = server_command(port, host)
    print(f"http://{host}:{port}", flush=True)
    server = subprocess.Popen(command, env=server_environment())
    try:
        code = server.wait()
    except KeyboardInterrupt:
        server.terminate()
        server.wait()
        raise
    if code:
        raise InputError(f"the MLflow server ended with code {code} (is port {port} in use?)")
