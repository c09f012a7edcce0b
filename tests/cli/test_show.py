"""What the commands print."""

from edgefilter.cli.show import counters_line


def test_what_was_refused_is_told_by_its_reason() -> None:
    counters = {"frames": 2, "bytes": 800, "samples": 100, "ended": 1}
    counters |= {"late": 5, "malformed.magic": 1, "input.kernel_drops": 3}
    assert counters_line(counters) == (
        "received: 2 frames, 800 B, 100 samples, 5 samples that came too late, 1 malformed messages (magic), "
        "3 kernel drops; the sender ended the stream"
    )
