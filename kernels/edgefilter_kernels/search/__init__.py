"""Find dispersed pulses."""
