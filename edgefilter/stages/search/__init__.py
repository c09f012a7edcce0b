"""Search for dispersed pulses."""
