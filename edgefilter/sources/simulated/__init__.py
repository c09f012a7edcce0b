"""Simulated telescopes: noise, pulses and interference of known strength."""
