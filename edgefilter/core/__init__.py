"""What everything else speaks: streams, chunks, cells, time, settings, the plan of a reduction, errors."""
