"""``edgefilter keys``, and the commands that use the keys."""


def test_a_key_pair_is_written_and_never_overwritten(run_cli, tmp_path):
    status, out, _ = run_cli("keys", "node", "--out", tmp_path)
    assert status == 0
    assert f"secret key, for this machine only: {tmp_path}/node.key_secret" in out
    assert (tmp_path / "node.key_secret").stat().st_mode & 0o777 == 0o600
    secret = (tmp_path / "node.key_secret").read_bytes()
    assert secret.split(b"secret-key = ")[1].strip(b'"\n') not in out.encode()
    status, _, err = run_cli("keys", "node", "--out", tmp_path)
    assert status == 1
    assert err == f"edgefilter: {tmp_path}/node.key_secret: exists, keys are never overwritten\n"
    assert (tmp_path / "node.key_secret").read_bytes() == secret


def test_a_secret_key_that_others_can_read_is_refused(run_cli, tmp_path):
    run_cli("keys", "dish", "--out", tmp_path)
    (tmp_path / "dish.key_secret").chmod(0o644)
    keys = ("--key", tmp_path / "dish.key_secret", "--node-key", tmp_path / "dish.key")
    status, _, err = run_cli("send", "synthetic", "--to", "tcp://127.0.0.1:1", *keys)
    assert status == 1
    assert "mode is 0644, but only the owner may read a secret key: chmod 600" in err


def test_a_sender_needs_both_keys_or_none(run_cli, tmp_path):
    status, _, err = run_cli("send", "synthetic", "--to", "tcp://127.0.0.1:1", "--key", tmp_path / "dish.key_secret")
    assert (status, err) == (1, "edgefilter: --key and --node-key must be given together\n")
