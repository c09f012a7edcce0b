"""The reducer: windows of the ring into products in the spool."""
