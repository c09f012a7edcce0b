"""The whole pipeline, from file to candidates, on simulated skies: ``python -m benchmarks.scenes``.

:mod:`~benchmarks.scenes.scene` says what a scene is, :mod:`~benchmarks.scenes.catalogue` lists the scenes,
:mod:`~benchmarks.scenes.ideal` says what an ideal search finds in them, :mod:`~benchmarks.scenes.searchers` runs
edgefilter and its peers on their files, and :mod:`~benchmarks.scenes.score` compares candidates with pulses.
"""
