"""The command line's door: runs the verb and turns every error into one line and an exit code."""

from __future__ import annotations

import os
import sys
from types import TracebackType

import click

from app.cli.output import safe
from app.cli.root import cli
from app.errors import ExitCode, ForetideError


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; its exit code. Errors are one line on stderr, never a traceback."""
    sys.excepthook = _report
    try:
        result = cli.main(arguments, prog_name="foretide", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ForetideError as error:
        print(f"error: {safe(error.detail)}", file=sys.stderr)
        for field in error.errors:
            print(f"  {safe(field.pointer)}: {safe(field.detail)}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        # The reader has gone, as `foretide … | head` does. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    return result if isinstance(result, int) else ExitCode.OK


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an error that nobody expected: in one line, or whole when the log level is DEBUG."""
    from app.settings import get_settings

    if get_settings().log_level == "DEBUG":
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"error: unexpected {kind.__name__}: {error}; FORETIDE_LOG_LEVEL=DEBUG shows where", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
