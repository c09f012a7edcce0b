"""The report: one self-contained page that shows the contents of a store and what was discarded."""
