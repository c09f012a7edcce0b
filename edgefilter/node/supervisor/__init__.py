"""The supervisor: starts, monitors, restarts and upgrades the other processes of a node."""
