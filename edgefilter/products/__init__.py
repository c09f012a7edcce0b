"""Data products: tables, cut-outs, the ledger, and their names."""
