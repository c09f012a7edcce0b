"""CUDA twins: find dispersed pulses."""
