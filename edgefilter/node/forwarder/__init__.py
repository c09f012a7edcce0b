"""The forwarder: products from the spool into the store."""
