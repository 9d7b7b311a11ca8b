"""The `kmax` command: assembles the verbs, and converts errors to one-line messages and exit codes.

Exit codes: 0 done; 2 usage or bad input (one line per fault, no traceback); 75 out of time, the same command
resumes; 130 Ctrl-C; 143 SIGTERM. A bug of this project shows its traceback (1).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import typer

from kmax.cli import data, doctor, metric_verbs, model_files, params, results, stage_verbs, submission
from kmax.cli.streams import accept_any_text
from kmax.display import printable
from kmax.errors import InputError, OutOfTimeError
from kmax.shortages import shortage
from kmax.urls import hide_in_tracebacks, without_secrets

EXIT_USAGE, EXIT_OUT_OF_TIME, EXIT_INTERRUPTED, EXIT_TERMINATED = 2, 75, 130, 143
_USAGE_ERROR: Any = typer.BadParameter.__base__  # typer exports the leaves of click's errors, not UsageError

app = typer.Typer(
    name="kmax",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""kMaX-DeepLab from raw data to tables. Each command works on its own and prints its output's path.

\b
The stages of a run, in order:
  kmax data download shapes_smoke && kmax data prepare shapes_smoke
  kmax train shapes-smoke && kmax predict shapes-smoke
  kmax evaluate shapes-smoke && kmax benchmark shapes-smoke
  kmax report shapes-smoke

Exit codes: 0 done, 2 bad usage or input, 75 out of time (run again to resume), 130 interrupted.""",
)
for verbs in (data, stage_verbs, model_files, metric_verbs, submission, results, params, doctor):
    verbs.add_to(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    # Large pages for torch's tensors on CPUs make a training step a tenth faster. torch reads this at
    # start-up.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    hide_in_tracebacks()
    signal.signal(signal.SIGTERM, _terminate)
    accept_any_text()
    sys.exit(call(arguments))


def call(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; faults are printed to stderr."""
    try:
        code = typer.main.get_command(app).main(
            args=list(sys.argv[1:] if arguments is None else arguments) or ["--help"],
            prog_name="kmax",
            standalone_mode=False,
        )
        code = code if isinstance(code, int) else 0
        sys.stdout.flush()
    except InputError as error:
        return _report(EXIT_USAGE, error.lines())
    except OutOfTimeError as error:
        return _report(EXIT_OUT_OF_TIME, [str(error)])
    except _USAGE_ERROR as error:
        return _report(EXIT_USAGE, [_usage(error)])
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of the output (`| head`) has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        line = shortage(error)
        if line is None:
            raise
        return _report(EXIT_USAGE, [line])
    if code == EXIT_INTERRUPTED:
        _report(code, ["interrupted; the same command resumes where possible"])
    return code


def _report(code: int, lines: Sequence[str]) -> int:
    with contextlib.suppress(OSError):  # standard error may be a file on a full disk
        for line in lines:
            print(f"kmax: {printable(without_secrets(line))}", file=sys.stderr)
    return code


def _usage(error: Any) -> str:
    command = error.ctx.command_path if error.ctx else "kmax"
    return f"{' '.join(error.format_message().split())} (see `{command} --help`)"


def _terminate(signum: int, frame: FrameType | None) -> None:
    """SIGTERM unwinds like Ctrl-C, so that temporary files are removed; the trainer has its own handler."""
    sys.exit(EXIT_TERMINATED)


if __name__ == "__main__":
    main()
