"""Random numbers, tones, filters and pulses of simulated telescopes."""
