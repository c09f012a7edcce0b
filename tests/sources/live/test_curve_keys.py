"""A node accepts only senders whose keys it has, and only the owner can read a secret key."""

from pathlib import Path

import numpy as np
import pytest
import zmq

from edgefilter.core.errors import ConfigError, InputError
from edgefilter.node.receiver.input import Input, InputSettings
from edgefilter.sources.live.curve_keys import AllowList, SenderKeys, load_key_pair, load_public_key, make_key_pair
from edgefilter.sources.live.zmq_input import ZmqInput
from tests.helpers.zmq_listener import MemorySource, assert_same_samples, listener, send_source, wait_until


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    for folder, name in (("", "node"), ("", "unknown"), ("clients", "dish")):
        make_key_pair(tmp_path / folder, name)
    (tmp_path / "clients" / "dish.key_secret").rename(tmp_path / "dish.key_secret")
    return tmp_path


def curve_settings(keys: Path) -> dict[str, str]:
    return {"curve_key": str(keys / "node.key_secret"), "curve_clients": str(keys / "clients")}


def sender_keys(keys: Path, name: str) -> SenderKeys:
    return SenderKeys(load_key_pair(keys / f"{name}.key_secret"), load_public_key(keys / "node.key"))


def test_a_known_sender_is_accepted(keys: Path) -> None:
    source = MemorySource(1000)
    with listener(**curve_settings(keys)) as listening:
        send_source(source, listening.endpoint, keys=sender_keys(keys, "dish"))
        assert_same_samples(listening.wait_for_end(), source, ())
        assert listening.zmq_input.counters.input == {"refused_keys": 0}


def test_an_endpoint_with_curve_may_be_public(keys: Path) -> None:
    Input(InputSettings("tcp://0.0.0.0:*", **curve_settings(keys)), ZmqInput, lambda stream: None).close()


def test_an_unknown_sender_is_refused_and_counted(keys: Path) -> None:
    with listener(**curve_settings(keys)) as listening:
        with pytest.raises(InputError, match="the receiver refuses the keys"):
            send_source(MemorySource(10), listening.endpoint, receiver_timeout=0.5, keys=sender_keys(keys, "unknown"))
        wait_until(lambda: listening.zmq_input.counters.input["refused_keys"] > 0)
        assert listening.zmq_input.stream is None


def test_a_sender_without_keys_or_with_a_wrong_node_key_is_refused(keys: Path) -> None:
    wrong = SenderKeys(load_key_pair(keys / "dish.key_secret"), load_public_key(keys / "unknown.key"))
    with listener(**curve_settings(keys)) as listening:
        for these in (None, wrong):
            with pytest.raises(InputError, match=r"refuses the keys|no receiver"):
                send_source(MemorySource(10), listening.endpoint, receiver_timeout=0.3, keys=these)
        assert listening.zmq_input.stream is None


def test_a_key_can_be_added_while_the_node_runs(keys: Path) -> None:
    source = MemorySource(1000)
    with listener(**curve_settings(keys)) as listening:
        (keys / "clients" / "damaged.key").write_text("nothing")
        (keys / "clients" / "unknown.key").write_text((keys / "unknown.key").read_text())
        send_source(source, listening.endpoint, keys=sender_keys(keys, "unknown"))
        assert_same_samples(listening.wait_for_end(), source, ())


def test_a_pair_matches_and_only_the_owner_can_read_the_secret(tmp_path: Path) -> None:
    public, secret = make_key_pair(tmp_path / "new", "node")
    assert (public.stat().st_mode & 0o777, secret.stat().st_mode & 0o777) == (0o644, 0o600)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    pair = load_key_pair(secret)
    assert zmq.curve_public(pair.secret) == pair.public == load_public_key(public)
    assert pair.secret not in public.read_bytes()


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    make_key_pair(tmp_path, "node")
    before = (tmp_path / "node.key_secret").read_bytes()
    with pytest.raises(ConfigError, match="exists, keys are never overwritten"):
        make_key_pair(tmp_path, "node")
    (tmp_path / "node.key_secret").rename(tmp_path / "kept")
    with pytest.raises(ConfigError, match="exists, keys are never overwritten"):
        make_key_pair(tmp_path, "node")
    assert not (tmp_path / "node.key_secret").exists()  # half a pair must not be left
    assert (tmp_path / "kept").read_bytes() == before


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a\nb"])
def test_names_that_are_not_file_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a printable file name"):
        make_key_pair(tmp_path, name)


def test_invalid_key_files_are_errors(tmp_path: Path) -> None:
    _, secret = make_key_pair(tmp_path, "node")
    secret.chmod(0o640)
    with pytest.raises(ConfigError, match="mode is 0640, but only the owner may read a secret key: chmod 600"):
        load_key_pair(secret)
    secret.write_text('curve\n    public-key = "short"\n')
    with pytest.raises(ConfigError, match="40 characters"):
        load_public_key(secret)
    secret.write_bytes(np.random.default_rng(1).bytes(100))
    with pytest.raises(ConfigError, match="cannot be read as a key file"):
        load_public_key(secret)
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_public_key(path)
    (tmp_path / "node.key").chmod(0o600)
    with pytest.raises(ConfigError, match="has no secret key"):
        load_key_pair(tmp_path / "node.key")
    with pytest.raises(ConfigError, match="no such folder"):
        AllowList(tmp_path / "none")


def test_a_curve_key_needs_a_folder_of_clients(keys: Path) -> None:
    settings = InputSettings("tcp://127.0.0.1:*", curve_key=str(keys / "node.key_secret"))
    with pytest.raises(ConfigError, match="curve_key and curve_clients must be given together"):
        Input(settings, ZmqInput, lambda stream: None)
