"""Types that all other packages use: streams, chunks, cells, time, settings, the plan of a reduction, errors."""
