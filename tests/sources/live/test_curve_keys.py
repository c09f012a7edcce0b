"""Only senders whose key the node knows come in, and secret keys are their owner's alone."""

from pathlib import Path

import numpy as np
import pytest
import zmq

from edgefilter.core.errors import ConfigError, InputError
from edgefilter.node.receiver.zmq_input import ZmqInput, ZmqInputSettings
from edgefilter.sources.live.curve_keys import AllowList, load_key_pair, load_public_key, make_key_pair
from edgefilter.sources.live.zmq_sender import SenderKeys, send
from tests.sources.live.test_zmq_sender import MemorySource, assert_same_samples, listener


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    for folder, name in (("", "node"), ("", "stranger"), ("clients", "dish")):
        make_key_pair(tmp_path / folder, name)
    (tmp_path / "clients" / "dish.key_secret").rename(tmp_path / "dish.key_secret")
    return tmp_path


def curve_settings(keys: Path) -> dict[str, str]:
    return {"curve_key": str(keys / "node.key_secret"), "curve_clients": str(keys / "clients")}


def sender_keys(keys: Path, name: str) -> SenderKeys:
    return SenderKeys(load_key_pair(keys / f"{name}.key_secret"), load_public_key(keys / "node.key"))


def test_a_sender_that_is_known_comes_in(keys: Path) -> None:
    source = MemorySource(1000)
    with listener(**curve_settings(keys)) as listening:
        send(source, listening.endpoint, None, keys=sender_keys(keys, "dish"))
        assert_same_samples(listening.ended(), source, ())
        assert listening.zmq_input.refused == 0


def test_an_endpoint_with_curve_may_be_open_to_others(keys: Path) -> None:
    ZmqInput(ZmqInputSettings("main", "tcp://0.0.0.0:*", **curve_settings(keys)), lambda stream: None).close()


def test_a_stranger_is_refused_and_counted(keys: Path) -> None:
    with listener(**curve_settings(keys)) as listening:
        with pytest.raises(InputError, match="the receiver refuses the keys"):
            send(MemorySource(10), listening.endpoint, None, receiver_timeout=0.5, keys=sender_keys(keys, "stranger"))
        assert listening.zmq_input.refused > 0
        assert listening.zmq_input.stream is None


def test_a_sender_without_keys_or_with_a_wrong_node_key_is_refused(keys: Path) -> None:
    wrong = SenderKeys(load_key_pair(keys / "dish.key_secret"), load_public_key(keys / "stranger.key"))
    with listener(**curve_settings(keys)) as listening:
        for these in (None, wrong):
            with pytest.raises(InputError, match=r"refuses the keys|nobody receives"):
                send(MemorySource(10), listening.endpoint, None, receiver_timeout=0.3, keys=these)
        assert listening.zmq_input.stream is None


def test_a_sender_may_be_let_in_while_the_node_runs(keys: Path) -> None:
    source = MemorySource(1000)
    with listener(**curve_settings(keys)) as listening:
        (keys / "clients" / "spoilt.key").write_text("nothing")
        (keys / "clients" / "stranger.key").write_text((keys / "stranger.key").read_text())
        send(source, listening.endpoint, None, keys=sender_keys(keys, "stranger"))
        assert_same_samples(listening.ended(), source, ())


def test_a_pair_belongs_together_and_the_secret_to_its_owner(tmp_path: Path) -> None:
    public, secret = make_key_pair(tmp_path / "new", "node")
    assert (public.stat().st_mode & 0o777, secret.stat().st_mode & 0o777) == (0o644, 0o600)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    pair = load_key_pair(secret)
    assert zmq.curve_public(pair.secret) == pair.public == load_public_key(public)
    assert pair.secret not in public.read_bytes()


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    make_key_pair(tmp_path, "node")
    before = (tmp_path / "node.key_secret").read_bytes()
    with pytest.raises(ConfigError, match="is there already"):
        make_key_pair(tmp_path, "node")
    (tmp_path / "node.key_secret").rename(tmp_path / "kept")
    with pytest.raises(ConfigError, match="is there already"):
        make_key_pair(tmp_path, "node")
    assert not (tmp_path / "node.key_secret").exists()  # half a pair would be worse than none
    assert (tmp_path / "kept").read_bytes() == before


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a\nb"])
def test_names_that_cannot_be_files_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be one that a file can have"):
        make_key_pair(tmp_path, name)


def test_files_that_cannot_be_keys_are_one_line(tmp_path: Path) -> None:
    _, secret = make_key_pair(tmp_path, "node")
    secret.chmod(0o640)
    with pytest.raises(ConfigError, match="mode is 0640, a secret key must be its owner's alone: chmod 600"):
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


def test_a_key_needs_a_list_of_who_may_send(keys: Path) -> None:
    settings = ZmqInputSettings("main", "tcp://127.0.0.1:*", curve_key=str(keys / "node.key_secret"))
    with pytest.raises(ConfigError, match="curve_key needs curve_clients"):
        ZmqInput(settings, lambda stream: None)
