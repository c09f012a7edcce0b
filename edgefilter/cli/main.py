"""Entry point of the ``edgefilter`` program: prints an error as one line and sets the exit status."""

import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the program: exit status 0, 1 for an error, 2 for wrong usage, 130 after an interrupt."""
    try:
        # Imported here, so that Ctrl-C during the imports is reported as one line, too.
        from edgefilter.cli.program import app
        from edgefilter.core.errors import EdgefilterError

        try:
            app()
        except EdgefilterError as error:
            for line in str(error).splitlines():
                print(f"edgefilter: {line}", file=sys.stderr)
            sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as ending:
        # Typer turns KeyboardInterrupt into exit status 130 and prints nothing.
        if isinstance(ending, SystemExit) and ending.code != _INTERRUPTED:
            raise
        print("edgefilter: interrupted", file=sys.stderr)
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
