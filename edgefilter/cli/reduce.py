"""``edgefilter reduce``: the reducer of a stream of a node, under any process manager."""

from typing import Annotated

import typer

from edgefilter.cli.options import ConfigFileArgument, HealthPortOption, LogJsonOption, SetOption, read_settings


def command(
    config: ConfigFileArgument,
    stream: Annotated[
        str | None,
        typer.Option("--stream", metavar="NAME", help="Stream to reduce.", show_default="the only one of CONFIG"),
    ] = None,
    health_port: HealthPortOption = None,
    assignments: SetOption = None,
    log_json: LogJsonOption = False,
) -> None:
    """Reduce a stream of a node, from its ring to the spool, until its run ends.

    SIGTERM, SIGINT or SIGHUP: end after the current block; the next start
    continues there. If the run has ended, SIGTERM and SIGINT let it reduce the
    rest. A second SIGTERM or SIGINT: end at once.
    """
    from edgefilter.node.logs import configure
    from edgefilter.node.process_settings import find_stream, reducer_settings
    from edgefilter.node.reducer.process import serve_one_run
    from edgefilter.node.run_directory import make_run_directory
    from edgefilter.node.service import ServiceLink

    settings = read_settings(config, assignments)
    name = find_stream(settings, stream).name
    configure(log_json)
    with ServiceLink("reducer", settings, name, health_port) as link:
        serve_one_run(link, reducer_settings(settings, make_run_directory(settings), name, wait_seconds=0.0))
