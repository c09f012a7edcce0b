"""An input drives any live input: it counts what is malformed, and an error in the code of others is one line."""

import errno
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefilter.core.errors import InputError, PluginError, WireError
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.node.receiver.input import Input, InputSettings
from edgefilter.node.ring import RingReader, RingWriter
from edgefilter.plugins import Group, Plugin
from edgefilter.sources.live.base import End, Event, Frame, LiveInput

STREAM = Stream("test", SampleKind.POWER, 0, Fraction(1000), 8, 1e8, 1e6, ("I",), 8, Encoding.UNSIGNED)
OTHER = replace(STREAM, name="other")
PLUGIN = Plugin(Group.INPUTS, "script", "other-package", "2.5", "module:Scripted")


def samples(start: int, stop: int) -> bytes:
    return np.arange(start, stop).astype("<u8").tobytes()


class Scripted(LiveInput):
    """Returns the events of a script, each list by one call; then tells the input to stop."""

    script: Iterable[Any] = ()
    opened = closed = stopped = 0

    def open(self) -> None:
        self.opened += 1
        self.steps = iter(self.script)

    def receive(self, timeout: float) -> Iterable[Event]:
        step = next(self.steps, ())
        return step() if callable(step) else step

    def stop_listening(self) -> None:
        self.stopped += 1

    def close(self) -> None:
        self.closed += 1

    def connections(self) -> int:
        return 3

    def counters(self) -> dict[str, int]:
        return {"kernel_drops": 7}


def scripted(*script: Any, **methods: Any) -> type[Scripted]:
    return type("Scripted", (Scripted,), {"script": script} | methods)


def receive(folder: Path, kind: type[LiveInput], plugin: Plugin | None = None) -> Input:
    """Run an input until its script has ended, and end the run."""

    def make_ring(stream: Stream) -> None:
        RingWriter.create(folder / "ring", stream, 512).close()
        node_input.set_ring(folder / "ring")

    node_input = Input(InputSettings("script://127.0.0.1:1", late_seconds=1e6), kind, make_ring, plugin)

    def drain() -> Iterable[Event]:
        node_input.drain()
        return ()

    if isinstance(node_input._live_input, Scripted):
        node_input._live_input.steps = iter([*node_input._live_input.script, drain])
    node_input.run()
    return node_input


def test_several_frames_of_one_call_and_malformed_ones_among_them(tmp_path: Path) -> None:
    def generate() -> Iterable[Event]:
        memory = bytearray(samples(20, 30))
        yield Frame(20, memory)
        memory[:] = samples(30, 40)  # the input may use it again
        yield Frame(30, memory)
        raise WireError("magic", "the last of this call")

    def fail() -> Iterable[Event]:
        raise WireError("short", "an error without a generator")

    kind = scripted(
        [STREAM, Frame(0, samples(0, 10)), WireError("size", "?"), Frame(10, samples(10, 20))], generate, fail
    )
    node_input = receive(tmp_path, kind)
    assert node_input.counters.malformed == {"size": 1, "magic": 1, "short": 1}
    assert (node_input.counters.frames, node_input.counters.bytes) == (4, 320)
    with RingReader.attach(tmp_path / "ring", "reader") as ring:
        assert ring.read(0, 40).data.tobytes() == samples(0, 40)
        assert ring.last == 40


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (Frame(0, b"1234567"), "size"),
        (Frame(0, b""), "size"),
        (Frame(-1, samples(0, 1)), "range"),
        (Frame(2**63, samples(0, 1)), "range"),
        (End(-1), "range"),
        (End(2**63), "range"),
    ],
)
def test_what_no_stream_can_have_is_malformed(tmp_path: Path, frame: Event, kind: str) -> None:
    node_input = receive(tmp_path, scripted([STREAM, frame, Frame(0, samples(0, 2))]))
    assert node_input.counters.malformed == {kind: 1}
    assert node_input.counters.samples == 2


def test_numbers_and_memory_of_numpy_are_accepted(tmp_path: Path) -> None:
    array = np.arange(10, dtype="<u8")
    node_input = receive(
        tmp_path, scripted([STREAM, Frame(np.uint64(5), array.data), Frame(15, array.view("i2").data)])
    )
    assert node_input.counters.samples == 20
    assert type(node_input._newest) is int


def test_a_frame_without_a_digest_is_of_the_last_header(tmp_path: Path) -> None:
    frame = Frame(0, samples(0, 10))
    script = [frame, STREAM, frame, OTHER, frame, End(50), frame._replace(digest=STREAM.digest[:4]), STREAM, End(20)]
    node_input = receive(tmp_path, scripted(script))
    assert (node_input.counters.unknown_stream, node_input.counters.other_stream) == (3, 1)
    assert (node_input.counters.samples, node_input.counters.repeated) == (10, 10)
    assert node_input.counters.ended
    with RingReader.attach(tmp_path / "ring", "reader") as ring:
        assert ring.last == 20


def test_a_live_input_knows_the_stream_of_a_run_that_it_continues(tmp_path: Path) -> None:
    RingWriter.create(tmp_path / "ring", STREAM, 512).close()
    seen = []
    kind = scripted(open=lambda self: seen.append(self.stream))
    Input(InputSettings("script://127.0.0.1:1", ring=str(tmp_path / "ring")), kind, lambda stream: None).close()
    assert seen == [STREAM]


def test_counters_and_connections_of_the_live_input_are_in_the_status(tmp_path: Path) -> None:
    fields = receive(tmp_path, scripted([STREAM])).status()
    assert fields["connections"] == 3
    assert fields["counters"]["input"] == {"kernel_drops": 7}


def test_only_a_retired_input_leaves_its_endpoint(tmp_path: Path) -> None:
    drained = receive(tmp_path, scripted())
    retired = Input(InputSettings("script://127.0.0.1:1"), scripted(), lambda stream: None)
    retired.retire()
    retired.run()
    assert [node_input._live_input.stopped for node_input in (drained, retired)] == [0, 1]  # type: ignore[attr-defined]
    assert [node_input._live_input.closed for node_input in (drained, retired)] == [1, 1]  # type: ignore[attr-defined]


def test_an_endpoint_in_use_is_tried_again(tmp_path: Path) -> None:
    results = [OSError(errno.EADDRINUSE, "in use"), OSError(errno.EADDRINUSE, "in use"), None]

    def open_later(self: Scripted) -> None:
        if error := results.pop(0):
            raise error

    node_input = Input(InputSettings("script://127.0.0.1:1"), scripted(open=open_later), lambda stream: None, PLUGIN)
    assert node_input._live_input.closed == 2  # type: ignore[attr-defined]
    results[:] = [OSError(errno.ENODEV, "no such device")]
    with pytest.raises(InputError, match=r"^cannot listen at script://127.0.0.1:1: no such device$"):
        Input(InputSettings("script://127.0.0.1:1"), scripted(open=open_later), lambda stream: None, PLUGIN)


def explode(*_: object) -> Any:
    raise KeyError("no\nsuch key")


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (scripted(__init__=explode), r"failed: KeyError: 'no\\nsuch key' \(test_input.py:\d+\)"),
        (scripted(open=explode), "failed: KeyError"),
        (scripted(receive=explode), "failed: KeyError"),
        (scripted([STREAM], explode), "failed: KeyError"),
        (scripted(counters=explode), "failed: KeyError"),
        (scripted(connections=lambda self: "many"), "failed: TypeError"),
        (scripted(close=explode), "failed: KeyError"),
        (scripted(receive=lambda self, timeout: None), "failed: TypeError"),
        (scripted([(0, b"")]), "receive returned tuple, must return Stream, Frame, End and WireError"),
        (scripted([STREAM, Frame(0, 5)]), "failed: TypeError: memoryview: a bytes-like object is required, not 'int'"),
        (scripted([STREAM, Frame(0, b"", "digest")]), "failed: TypeError: startswith first arg must be bytes"),
        (scripted([STREAM, End("5")]), "failed: TypeError: 'str' object cannot be interpreted as an integer"),
        (scripted([STREAM, Frame(0.5, b"")]), "failed: TypeError: 'float' object cannot be interpreted as an integer"),
        (scripted([STREAM, Frame(0, np.zeros((4, 4), np.uint8).T.data)]), "failed: TypeError"),
    ],
)
def test_an_unexpected_exception_is_one_line_with_plugin_and_package(
    tmp_path: Path, kind: type[LiveInput], line: str
) -> None:
    with pytest.raises(PluginError, match=rf"^live input 'script' of other-package 2.5 .*{line}") as caught:
        receive(tmp_path, kind, PLUGIN)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_an_error_meant_for_the_user_stays_as_it_is(tmp_path: Path) -> None:
    def fail() -> Iterable[Event]:
        raise InputError("the card has no clock")

    with pytest.raises(InputError, match=r"^the card has no clock$"):
        receive(tmp_path, scripted(fail), PLUGIN)


def test_the_first_error_is_told_also_if_close_fails_too(tmp_path: Path) -> None:
    for first in (scripted(open=explode, close=lambda self: 1 / 0), scripted(explode, close=lambda self: 1 / 0)):
        with pytest.raises(PluginError, match="KeyError"):
            receive(tmp_path, first, PLUGIN)


def test_a_bug_of_ours_keeps_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        receive(tmp_path, scripted(explode), replace(PLUGIN, package="edgefilter"))
