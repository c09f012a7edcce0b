"""A store in a bucket of an S3-compatible object store.

An object is uploaded in one request that carries its SHA-256. A second request then reads size and ETag, which must be
those of its content. The upload asks the server not to replace an object. Servers keep this condition only if no other
client writes the same name at that moment. This is enough to detect a name that is in use; that nothing is stored twice
follows from the names, which contain the digest.
"""

import email.utils
import hashlib
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

import obstore
import pyarrow.fs as pafs
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from edgefilter.core.errors import ConflictError, StoreError, UnavailableError
from edgefilter.products.base import Product
from edgefilter.store import credentials
from edgefilter.store.base import ObjectInfo, Store, check_name, first_line, map_parallel

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_OPTIONS = ("endpoint", "region", "allow_http")
_STATUS = re.compile(r"status code: (\d{3})")
_BUSY_STATUSES = (429, 503)
_NOT_IMPLEMENTED = 501
_MAX_RETRY_AFTER_SECONDS = 3600.0
_RETRY_AFTER_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class BucketUrl:
    """The parts of an ``s3://`` URL.

    Parameters
    ----------
    bucket
        Name of the bucket.
    prefix
        Beginning of the names of all objects, without ``/`` at its ends.
    endpoint
        URL of the server; None for AWS.
    region
        Name of the region.
    allow_http
        Whether an endpoint beyond loopback may be unencrypted.
    """

    bucket: str
    prefix: str
    endpoint: str | None
    region: str
    allow_http: bool

    @classmethod
    def parse(cls, url: str) -> "BucketUrl":
        """Parse a URL; ``AWS_ENDPOINT_URL`` and ``AWS_REGION`` of the environment are defaults of its options.

        Parameters
        ----------
        url
            ``s3://BUCKET/PREFIX?endpoint=URL&region=NAME&allow_http=true``.

        Returns
        -------
        BucketUrl
            Its parts.

        Raises
        ------
        StoreError
            If it is not such a URL, contains keys, or its endpoint is neither encrypted nor allowed.
        """
        parts = urlsplit(url)
        if "@" in url.partition("?")[0]:
            raise StoreError("store s3://…: a URL must not contain keys; set them in the environment or a profile")
        options = dict(parse_qsl(parts.query))
        if unknown := sorted(set(options) - set(_OPTIONS)):
            raise StoreError(
                f"store s3://{parts.netloc}: unknown option {unknown[0]!r}, expected {', '.join(_OPTIONS)}"
            )
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", parts.netloc):
            raise StoreError(
                f"store {url}: must be s3://BUCKET/PREFIX, where BUCKET is 3 to 63 characters of a-z, 0-9, . and -"
            )
        prefix = parts.path.strip("/")
        if prefix:
            check_name(prefix)
        env = os.environ
        endpoint = options.get("endpoint") or env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL")
        region = options.get("region") or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
        allow = options.get("allow_http") == "true"
        if endpoint:
            where = urlsplit(endpoint)
            if where.scheme not in ("http", "https") or not where.hostname or "@" in where.netloc:
                raise StoreError(f"store s3://{parts.netloc}: the endpoint must be https://HOST:PORT")
            if where.scheme == "http" and where.hostname not in _LOOPBACK and not allow:
                raise StoreError(
                    f"store s3://{parts.netloc}: endpoint {endpoint} is not encrypted; "
                    "use https, or add allow_http=true"
                )
        return cls(parts.netloc, prefix, endpoint, region or "us-east-1", allow)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def connect(url: str, _create: bool, timeout: float) -> Store:
    """Connect to a bucket of an object store: ``s3://BUCKET/PREFIX``.

    Parameters
    ----------
    url
        See :meth:`BucketUrl.parse`.
    timeout
        Longest time of one request, s.

    Returns
    -------
    Store
        The store.
    """
    return ObjectStore(url, timeout)


class ObjectStore(Store):
    """Objects in a bucket.

    Parameters
    ----------
    url
        See :meth:`BucketUrl.parse`.
    timeout
        Longest time of one request, s.

    Raises
    ------
    StoreError
        If the URL is wrong, or there are no credentials.
    """

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        self._bucket_url = BucketUrl.parse(url)
        self._credentials = credentials.find_credentials()
        self._timeout = timeout
        ca_bundle = os.environ.get("AWS_CA_BUNDLE")
        self._ca_bundle = ca_bundle
        client = {
            "allow_http": True,
            "timeout": timedelta(seconds=timeout),
            "connect_timeout": timedelta(seconds=min(10.0, timeout)),
        }
        if ca_bundle:
            try:
                client["root_certificate"] = Path(ca_bundle).read_bytes()
            except OSError as error:
                raise StoreError(f"AWS_CA_BUNDLE {ca_bundle}: cannot be read: {error.strerror}") from None
        options = {"endpoint": self._bucket_url.endpoint} if self._bucket_url.endpoint else {}
        if self._credentials.token:
            options["session_token"] = self._credentials.token
        self._store = S3Store(
            self._bucket_url.bucket,
            prefix=self._bucket_url.prefix or None,
            region=self._bucket_url.region,
            access_key_id=self._credentials.key,
            secret_access_key=self._credentials.secret,
            checksum_algorithm="SHA256",
            client_options=client,  # type: ignore[arg-type]
            # The forwarder repeats requests: it knows which products are more important.
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=timeout)},
            **options,  # type: ignore[arg-type]
        )
        self._unverified: set[str] = set()

    @property
    def location(self) -> str:
        return str(self._bucket_url)

    def put(self, product: Product) -> None:
        check_name(product.name)
        with self._as_store_error(product.name, "cannot write"):
            # An object that this process has uploaded, and then not found complete, may be replaced.
            taken = not self._send(product, overwrite=product.name in self._unverified)
            found = self._compare_stored(product)
        if found == "same":
            self._unverified.discard(product.name)
        elif taken and found == "other":
            raise ConflictError(
                f"store {self.location}: {product.name} is there with other content, which stays as it is"
            )
        else:
            if not taken:
                self._unverified.add(product.name)
            raise UnavailableError(f"store {self.location}: {product.name} is not in the store as it was sent")

    def _send(self, product: Product, overwrite: bool) -> bool:
        """Upload an object; return False if its name is in use and ``overwrite`` is False."""
        mode: Literal["overwrite", "create"] = "overwrite" if overwrite else "create"
        try:
            obstore.put(self._store, product.name, product.content, mode=mode, use_multipart=False)
        except AlreadyExistsError:
            return False
        except BaseError as error:
            if overwrite or _status(error) != _NOT_IMPLEMENTED:
                raise
            # The server does not implement conditional requests: look first.
            return self._compare_stored(product) == "absent" and self._send(product, overwrite=True)
        return True

    def _compare_stored(self, product: Product) -> Literal["same", "other", "absent"]:
        """Compare an object with what the store holds under its name."""
        try:
            found = obstore.head(self._store, product.name)
        except FileNotFoundError:
            return "absent"
        if found["size"] != len(product.content):
            return "other"
        tag = (found["e_tag"] or "").strip('"')
        if tag == hashlib.md5(product.content, usedforsecurity=False).hexdigest():
            return "same"
        # If the server encrypts, the ETag is not an MD5: read the object back.
        return "same" if self.get(product.name) == product.content else "other"

    def get(self, name: str) -> bytes:
        check_name(name)
        with self._as_store_error(name, "cannot read"):
            try:
                return bytes(obstore.get(self._store, name).bytes())
            except FileNotFoundError:
                raise StoreError(f"store {self.location}: holds no {name}") from None

    def listing(self, prefix: str = "") -> Iterator[ObjectInfo]:
        folder = prefix.rpartition("/")[0]
        if folder:
            check_name(folder)
        with self._as_store_error(folder, "cannot list"):
            found = [
                ObjectInfo(item["path"], item["size"], item["last_modified"].timestamp())
                for page in obstore.list(self._store, folder or None)
                for item in page
                if item["path"].startswith(prefix)
            ]
        return iter(sorted(found, key=lambda item: item.name))

    def names(self, prefix: str = "") -> Iterator[str]:
        return (item.name for item in self.listing(prefix))

    def folders(self, prefix: str) -> list[str]:
        if prefix:
            check_name(prefix.removesuffix("/"))
        with self._as_store_error(prefix, "cannot list"):
            found = obstore.list_with_delimiter(self._store, prefix)["common_prefixes"]
        return sorted(f"{name.removesuffix('/')}/" for name in found)

    def delete(self, names: Sequence[str]) -> None:
        map_parallel(self._delete, names)

    def _delete(self, name: str) -> None:
        check_name(name)
        with self._as_store_error(name, "cannot delete"), suppress(FileNotFoundError):
            obstore.delete(self._store, name)

    def filesystem(self) -> pafs.FileSystem:
        """Return the prefix of the bucket as an Arrow file system."""
        bucket_url = self._bucket_url
        options = {"endpoint_override": bucket_url.endpoint} if bucket_url.endpoint else {}
        if self._ca_bundle:
            options["tls_ca_file_path"] = self._ca_bundle
        filesystem = pafs.S3FileSystem(
            access_key=self._credentials.key,
            secret_key=self._credentials.secret,
            session_token=self._credentials.token,
            region=bucket_url.region,
            request_timeout=self._timeout,
            connect_timeout=min(10.0, self._timeout),
            **options,
        )
        return pafs.SubTreeFileSystem("/".join(filter(None, (bucket_url.bucket, bucket_url.prefix))), filesystem)

    def url(self, name: str) -> str:
        return f"{self._bucket_url}/{name}"

    @contextmanager
    def _as_store_error(self, name: str, what: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError) as error:
            text = str(error)
            status = _status(error)
            code = re.search(r"<Code>(\w+)</Code>", text)
            problem = f"HTTP {status} {code.group(1) if code else ''}".strip() if status else first_line(error)[-200:]
            wait = self._requested_wait(name) if status in _BUSY_STATUSES else None
            raise UnavailableError(f"store {self.location}: {what} {name}: {problem}", wait) from None

    def _requested_wait(self, name: str) -> float | None:
        """Ask a busy server for its ``Retry-After`` with a small request: the client library does not report it."""
        url = obstore.sign(self._store, "HEAD", name, timedelta(seconds=60))
        try:
            request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the configured endpoint
            urllib.request.urlopen(request, timeout=_RETRY_AFTER_TIMEOUT_SECONDS).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            with error:
                return retry_after(error.headers.get("Retry-After"), time.time())
        except OSError:
            pass
        return None


def _status(error: BaseException) -> int:
    """Return the HTTP status in the message of the client library's error, 0 if there is none."""
    match = _STATUS.search(str(error))
    return int(match.group(1)) if match else 0


def retry_after(text: str | None, now: float) -> float | None:
    """Parse a ``Retry-After`` header.

    Parameters
    ----------
    text
        The header: a number of seconds or a date.
    now
        Current time, s since 1970.

    Returns
    -------
    float or None
        How long to wait, s, at most an hour; None if the header is missing or malformed.
    """
    if text is None:
        return None
    if re.fullmatch(r"\d{1,9}", text.strip()):
        seconds = float(text)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - now
        except ValueError:
            return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_SECONDS)
