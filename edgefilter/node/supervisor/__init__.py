"""The supervisor: starts, watches, restarts and upgrades the other processes."""
