"""The ``edgefilter`` program: turns errors into one line and an exit status."""

import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the program: exit status 0, 1 for an error of ours, 2 for wrong usage, 130 when interrupted."""
    try:
        # Imported here, so that an interruption of the imports is one line too.
        from edgefilter.cli.program import app
        from edgefilter.core.errors import EdgefilterError

        try:
            app()
        except EdgefilterError as error:
            for line in str(error).splitlines():
                print(f"edgefilter: {line}", file=sys.stderr)
            sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as ending:
        # Typer makes exit status 130 of KeyboardInterrupt, without a word.
        if isinstance(ending, SystemExit) and ending.code != _INTERRUPTED:
            raise
        print("edgefilter: interrupted", file=sys.stderr)
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
