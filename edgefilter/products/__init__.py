"""What is kept: tables, cut-outs, the ledger, and their names."""
