"""Conformance suites for plug-ins: a package of others runs them in its own tests, with pytest.

Each suite is a class of test methods; a test module makes a subclass that says what is to be tested.

============================ ==============================================================
:mod:`~.stage`               law 1 for a stage: start anywhere, any threads
:mod:`~.source`              a file format: read anywhere, gaps stay gaps, damage is reported
:mod:`~.live_input`          a live input: each sample at its number, each loss a gap
:mod:`~.store`               a store: objects are complete, never change, and are listed
============================ ==============================================================
"""
