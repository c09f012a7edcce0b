"""The contract of live inputs: a packet format with its transport.

A package brings an input as an entry point of group ``edgefilter.inputs``: its name is the scheme of endpoints, its
object a subclass of :class:`LiveInput`. The receiver makes one for each stream whose endpoint has that scheme, asks it
again and again for what has arrived, and does all the rest: it places frames in the ring by their sample numbers,
counts what is late, repeated or malformed, waits for room, and replaces one receiver by the next.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from edgefilter.core.closing import Closing
from edgefilter.core.endpoint import LiveInputSettings, is_local, parse_host_port
from edgefilter.core.errors import ConfigError, WireError
from edgefilter.core.stream import Stream

if TYPE_CHECKING:
    from edgefilter.core.node_sections import Section


class Frame(NamedTuple):
    """Consecutive samples of a stream.

    Parameters
    ----------
    start
        Number of the first sample: sample 0 is at the epoch of the stream.
    data
        Raw bytes of whole samples, in one piece of memory; ``array.data`` of a NumPy array is one. They are copied
        before the input is asked for more, so the input may use the memory again then.
    digest
        First bytes of :attr:`Stream.digest <edgefilter.core.stream.Stream.digest>`, if the packet has them. If empty,
        the frame is of the last stream that the input returned.
    """

    start: int
    data: bytes | bytearray | memoryview
    digest: bytes = b""


class End(NamedTuple):
    """The end of a stream.

    Parameters
    ----------
    sample
        One past the last sample.
    digest
        As in :class:`Frame`.
    """

    sample: int
    digest: bytes = b""


Event = Stream | Frame | End | WireError
"""What arrives: the header of a stream, samples, the end of a stream, or a malformed packet."""


class LiveInput(Closing):
    """Receives one stream. A subclass writes :meth:`open`, :meth:`receive` and :meth:`close`.

    Parameters
    ----------
    settings
        The settings.

    Raises
    ------
    ConfigError
        If :meth:`check` refuses the settings.
    """

    Options: ClassVar["type[Section] | None"] = None
    """Settings of the plug-in, a subclass of :class:`~edgefilter.core.node_sections.Section`: the keys of
    ``input.options``. None is without options."""

    def __init__(self, settings: LiveInputSettings) -> None:
        self.check(settings)
        self.settings = settings
        self.options: Any = self.read_options(settings)
        """An object of :attr:`Options`, or None."""
        self.endpoint = settings.endpoint
        """Where it listens; after :meth:`open` with the actual port."""
        self.stream: Stream | None = None
        """The stream whose samples are in the ring; None before the first stream was accepted. The receiver sets it. A
        receiver that continues a run sets it before :meth:`open`."""

    # --- checks, for which nothing is opened

    @classmethod
    def check(cls, settings: LiveInputSettings) -> None:
        """Check settings, when a configuration is read and before an input is made.

        Parameters
        ----------
        settings
            The settings.

        Raises
        ------
        ConfigError
            If one is not possible; one line for each mistake.
        """
        cls.check_endpoint(settings.endpoint)
        cls.read_options(settings)
        if not (settings.insecure or cls.is_protected(settings)):
            raise ConfigError(
                f"endpoint {settings.endpoint!r} can be reached from other machines without encryption: use a loopback "
                "address, or say insecure = true"
            )

    @classmethod
    def check_endpoint(cls, endpoint: str) -> None:
        """Check the text of an endpoint: ``SCHEME://HOST:PORT``, unless a subclass replaces this method.

        Parameters
        ----------
        endpoint
            The endpoint; its scheme is that of the plug-in.

        Raises
        ------
        ConfigError
            If it is not an endpoint.
        """
        parse_host_port(endpoint)

    @classmethod
    def is_protected(cls, settings: LiveInputSettings) -> bool:
        """Tell whether other machines cannot reach the endpoint, or only with encryption.

        Parameters
        ----------
        settings
            The settings, with an endpoint that :meth:`check_endpoint` accepts.

        Returns
        -------
        bool
            True for loopback addresses, unless a subclass replaces this method.
        """
        return is_local(settings.endpoint)

    @classmethod
    def read_options(cls, settings: LiveInputSettings) -> "Section | None":
        """Make an object of :attr:`Options`.

        Parameters
        ----------
        settings
            The settings, with the options as they are in the configuration.

        Returns
        -------
        Section or None
            The options; None if the input has none.

        Raises
        ------
        ConfigError
            If a value is not possible or a key is unknown; one line for each mistake.
        """
        if cls.Options is not None:
            from pydantic import create_model  # takes 90 ms to import

            from edgefilter.core.validation import validate

            section = create_model("InputSection", options=(cls.Options, ...))
            checked = validate(section, {"options": dict(settings.options)}, where=settings.endpoint)
            return checked.options  # type: ignore[attr-defined, no-any-return]
        if settings.options:
            raise ConfigError(f"{settings.endpoint}: options: this input has none")
        return None

    # --- receiving: each of these methods is called when no other one runs

    @abstractmethod
    def open(self) -> None:
        """Begin to listen at the endpoint, and set :attr:`endpoint` if its port was ``*``.

        Raises
        ------
        OSError
            If that is not possible. With EADDRINUSE the receiver calls :meth:`close`, and :meth:`open` again for some
            seconds: the previous receiver may be about to leave the endpoint.
        """

    @abstractmethod
    def receive(self, timeout: float) -> Iterable[Event]:
        """Return what has arrived; if nothing has, wait for it.

        It may be a generator. Consecutive samples of many small packets should be one frame, because each frame costs
        some 20 µs.

        Parameters
        ----------
        timeout
            How long to wait at most, s; more than 0.

        Returns
        -------
        iterable of Stream, Frame, End or WireError
            What has arrived, in this order; nothing if nothing has arrived in time. A stream comes before its first
            frame, and may be repeated; frames may be late, repeated or lost. A
            :class:`~edgefilter.core.errors.WireError` is a malformed packet, counted by its kind.

        Raises
        ------
        WireError
            Instead of returning it.
        """

    def stop_listening(self) -> None:
        """Accept nothing new, and leave the endpoint to the next receiver.

        :meth:`receive` is then called until it returns nothing, for some seconds at most, so that what has arrived
        before is not lost. An input that cannot tell the two apart does nothing here.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the endpoint back. It may be called twice, and after an :meth:`open` that failed."""

    def connections(self) -> int:
        """Return the number of connected senders; 0 if the transport has no connections."""
        return 0

    def counters(self) -> Mapping[str, int]:
        """Return counters of the input's own since it was made, such as packets that the kernel dropped, by name."""
        return {}
