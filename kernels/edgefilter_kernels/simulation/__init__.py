"""Random numbers for simulated telescopes."""
