"""Keys are read from private places only, URLs are checked before a request, TLS is verified."""

import datetime
import ipaddress
from contextlib import ExitStack
from pathlib import Path

import pytest

from edgefilter.core.errors import StoreError, UnavailableError
from edgefilter.products.base import Product
from edgefilter.store.connect import connect
from edgefilter.store.credentials import Credentials, find_credentials
from edgefilter.store.objects import BucketUrl, retry_after
from tests.helpers.servers.bucket import make_bucket

CREDENTIALS_FILE = """
[default]
aws_access_key_id = a
aws_secret_access_key = s%e
[edge]
aws_access_key_id = b
aws_secret_access_key = t
aws_session_token = u
"""
AWS_VARIABLES = (
    "ENDPOINT_URL",
    "ENDPOINT_URL_S3",
    "ACCESS_KEY_ID",
    "SECRET_ACCESS_KEY",
    "REGION",
    "PROFILE",
    "CA_BUNDLE",
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove the AWS variables of this machine's environment."""
    for name in AWS_VARIABLES:
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "absent"))


def write_credentials(path: Path, text: str = CREDENTIALS_FILE, mode: int = 0o600) -> dict[str, str]:
    path.write_text(text)
    path.chmod(mode)
    return {"AWS_SHARED_CREDENTIALS_FILE": str(path)}


def test_keys_are_read_from_the_environment_or_a_profile(tmp_path: Path) -> None:
    environment = write_credentials(tmp_path / "keys")
    assert find_credentials(environment) == Credentials("a", "s%e")
    assert find_credentials(environment | {"AWS_PROFILE": "edge"}) == Credentials("b", "t", "u")
    given = {"AWS_ACCESS_KEY_ID": "c", "AWS_SECRET_ACCESS_KEY": "d"}
    assert find_credentials(environment | given) == Credentials("c", "d")
    assert "s%e" not in repr(find_credentials(environment))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_credentials_file_that_other_users_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(StoreError, match="other users may read it; its mode must be 0600"):
        find_credentials(write_credentials(tmp_path / "keys", mode=mode))


def test_credentials_file_without_keys_is_a_one_line_error_that_does_not_quote_it(tmp_path: Path) -> None:
    for text, profile in (
        ("secret stuff", "default"),
        (CREDENTIALS_FILE, "other"),
        ("[x]\naws_access_key_id = secret", "x"),
    ):
        with pytest.raises(StoreError, match=f"credentials {tmp_path}/keys: ") as caught:
            find_credentials(write_credentials(tmp_path / "keys", text) | {"AWS_PROFILE": profile})
        assert "secret stuff" not in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="no credentials: set AWS_ACCESS_KEY_ID"):
        connect("s3://bucket/prefix")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("s3://key:secret@bucket/x", "a URL must not contain keys"),
        ("s3://bucket/x?secret_access_key=s", "unknown option 'secret_access_key'"),
        ("s3://BUCKET/x", "must be s3://BUCKET/PREFIX"),
        ("s3:///x", "must be s3://BUCKET/PREFIX"),
        ("s3://bucket/a/../b", "not a name"),
        ("s3://bucket/x?endpoint=http://store.example:8080", "is not encrypted"),
        ("s3://bucket/x?endpoint=ftp://store.example", "must be https://HOST:PORT"),
        ("s3://bucket/x?endpoint=https://key:secret@store.example", "must be https://HOST:PORT"),
    ],
)
def test_malformed_and_unsafe_urls_are_refused(url: str, problem: str) -> None:
    with pytest.raises(StoreError, match=problem) as caught:
        BucketUrl.parse(url)
    assert "secret@" not in str(caught.value)


def test_url_names_bucket_and_prefix_and_the_environment_endpoint_and_region(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BucketUrl.parse("s3://bucket") == BucketUrl("bucket", "", None, "us-east-1", False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_REGION", "se-1")
    assert BucketUrl.parse("s3://bucket/a/b/") == BucketUrl("bucket", "a/b", "http://127.0.0.1:1", "se-1", False)
    url = "s3://bucket/a?endpoint=http://store.example:1&region=eu-1&allow_http=true"
    assert BucketUrl.parse(url) == BucketUrl("bucket", "a", "http://store.example:1", "eu-1", True)
    assert str(BucketUrl.parse(url)) == "s3://bucket/a"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        ("999999999", 3600.0),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    now = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC).timestamp()
    assert retry_after(header, now) == seconds


def certificates(folder: Path) -> tuple[Path, Path, Path]:
    """Return the paths of a new authority, and of a certificate and key of 127.0.0.1 that it signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def builder(subject: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name("authority")).public_key(public)
        made = made.serial_number(x509.random_serial_number())
        return made.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))

    root = builder("authority", root_key.public_key()).add_extension(x509.BasicConstraints(True, None), True)
    leaf = builder("store", key.public_key()).add_extension(x509.BasicConstraints(False, None), True)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = leaf.add_extension(address, False)
    leaf = leaf.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    paths = folder / "authority.pem", folder / "server.pem", folder / "server.key"
    for path, made in zip(paths, (root, leaf), strict=False):
        path.write_bytes(made.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    paths[2].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return paths


def test_tls_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A server with an unknown certificate receives nothing; with the authority given, it receives the object."""
    pytest.importorskip("cryptography", reason="the package cryptography is not installed")
    request.getfixturevalue("swift_server")  # skips the test if Swift cannot run
    from tests.helpers.servers import swift

    ca_bundle, certificate, key = certificates(tmp_path)
    with ExitStack() as stack:
        server = swift.start_tls_proxy(request.getfixturevalue("swift_folder"), stack, certificate, key)
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        product = Product("streams/x.json", b"{}")
        with pytest.raises(UnavailableError, match="cannot write streams") as caught:
            connect("s3://tls-bucket/tls").put(product)
        assert server.secret not in str(caught.value)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(ca_bundle))
        store = connect("s3://tls-bucket/tls")
        with pytest.raises(UnavailableError, match="NoSuchBucket"):
            store.put(product)
        make_bucket(server, "tls-bucket", ca_bundle)
        store.put(product)
        assert list(store.names()) == ["streams/x.json"]
        with store.filesystem().open_input_file("streams/x.json") as file:
            assert file.read() == b"{}"
