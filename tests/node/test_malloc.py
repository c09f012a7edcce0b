"""Environment variables of the receiver for the C library."""

import platform

import pytest

from edgefilter.node.malloc import memcpy_environment


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("others", ["", "glibc.malloc.check=1"])
def test_tunables_of_the_operator_are_kept(monkeypatch: pytest.MonkeyPatch, machine: str, others: str) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", others)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    found = memcpy_environment()
    if machine == "aarch64":
        assert not found
        return
    *before, ours = found["GLIBC_TUNABLES"].split(":")
    assert before == others.split(":")[: len(before)]
    assert ours == "glibc.cpu.x86_non_temporal_threshold=0x40000"
    assert len(before) == bool(others)
