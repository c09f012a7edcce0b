"""Live streams: packet formats with their transports, and the senders and keys that go with them.

* :mod:`~.base` is the contract of a live input, :class:`~.base.LiveInput`, for packages of others too.
* :mod:`~.zmq_input` is the input over ZeroMQ, :mod:`~.zmq_wire` its packet format, which knows no sockets.
* :mod:`~.zmq_sender` and :mod:`~.zmq_push_socket` send a source in that format.
* :mod:`~.zmq_connections` and :mod:`~.curve_keys` serve both ends of a ZeroMQ connection.

To read another packet format, write a subclass of :class:`~.base.LiveInput`, and register it in the ``pyproject.toml``
of its package, here or elsewhere, as an entry point of group ``edgefilter.inputs``. Its name is the scheme of
endpoints: with ``udp = "my_package:UdpInput"``, that class receives ``input.endpoint = "udp://127.0.0.1:4000"``.
Nothing else must change.
"""
