"""Live streams: packet formats, and the senders and keys that go with them.

* :mod:`~.zmq_wire` is the packet format of edgefilter's ZeroMQ messages; it knows no sockets.
* :mod:`~.zmq_sender` and :mod:`~.zmq_push_socket` send a source in that format.
* :mod:`~.zmq_connections` and :mod:`~.curve_keys` serve both ends of a ZeroMQ connection.

To add a packet format, write a module beside ``zmq_wire.py``, named after the format: it parses a packet to the numbers
of its first sample and of its samples and to their bytes, and raises :class:`~edgefilter.core.errors.WireError` for
anything else. The input that receives its packets and writes them to the ring goes to ``edgefilter/node/receiver/``,
beside ``zmq_input.py``. Only ZeroMQ exists today, so these must change too:

* ``edgefilter/node/receiver/process.py``: which class of input is made,
* ``InputSection`` in ``edgefilter/core/node_sections.py``: the settings of the input,
* ``edgefilter/core/endpoint.py``: the schemes of addresses.
"""
