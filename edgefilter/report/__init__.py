"""The report: one self-contained page that shows what a store holds and what was thrown away."""
