"""Strongest pulse of each day and node in a store, with PySpark: ``python with_pyspark.py STORE``.

Spark itself reads the files. For a store in a bucket it needs hadoop-aws on its class path, and URLs with ``s3a://``.
"""

import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name in the documentation of Spark

import edgefilter


def strongest(where: str) -> list[tuple[str, str, float, float]]:
    """Return date, node, S/N and DM of the strongest pulse of each day and node."""
    store = edgefilter.open_store(where)
    files = [file.replace("s3://", "s3a://") for file in store.files("pulses")]
    spark = SparkSession.builder.appName("edgefilter").getOrCreate()
    root = f"{store.location.replace('s3://', 's3a://')}/pulses"
    pulses = spark.read.option("basePath", root).option("mergeSchema", "true").parquet(*files)
    best = pulses.groupBy("date", "node").agg(F.max("snr").alias("snr"), F.max_by("dm", "snr").alias("dm"))
    return [(str(row.date), row.node, row.snr, row.dm) for row in best.orderBy("date", "node").collect()]


if __name__ == "__main__":
    for row in strongest(sys.argv[1]):
        print(*row)
