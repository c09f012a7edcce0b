"""What a notebook imports: open a store, tables, pulses, pictures, exports."""
