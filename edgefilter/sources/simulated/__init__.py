"""Simulated telescopes: noise, pulses, interference and loss of known size."""
