"""The store of products: immutable objects under names, in a directory or an S3 bucket.

=================== ==========================================================================================
``base``            the interface :class:`~edgefilter.store.base.Store`
``connect``         from a URL to a store: ``directory``, or ``objects`` with its ``credentials``
``reader``          tables, cut-outs, streams and settings for analysis; SQL in ``query``
``table_files``     the Parquet files of a table
``current_objects`` which objects are valid while a compaction replaces them; ``partitions``: which to list
``compact``         merging of small objects
``verify``          proof that a store is complete and undamaged
=================== ==========================================================================================
"""
