"""``edgefilter receive``: the receiver of a node, under any process manager."""

from typing import Annotated

import typer

from edgefilter.cli.options import ConfigFileArgument, HealthPortOption, LogJsonOption, SetOption, read_settings


def command(
    config: ConfigFileArgument,
    stream: Annotated[
        str | None, typer.Option("--stream", metavar="NAME", help="Stream to receive.", show_default="all of them")
    ] = None,
    health_port: HealthPortOption = None,
    assignments: SetOption = None,
    log_json: LogJsonOption = False,
) -> None:
    """Receive the streams of a node into their rings: one of its three processes.

    SIGTERM or SIGINT: receive what has arrived, end the runs there, end.
    SIGHUP: end; the runs continue at the next start.
    A second SIGTERM or SIGINT: end at once; the runs continue.
    """
    from edgefilter.node.logs import configure
    from edgefilter.node.process_settings import find_stream, receiver_settings
    from edgefilter.node.receiver.process import serve
    from edgefilter.node.run_directory import make_run_directory
    from edgefilter.node.service import ServiceLink

    settings = read_settings(config, assignments, stages=False)
    streams = settings.stream if stream is None else (find_stream(settings, stream),)
    configure(log_json)
    with ServiceLink("receiver", settings, health_port=health_port) as link:
        serve(link, receiver_settings(settings, make_run_directory(settings), streams, wait_seconds=0.0))
