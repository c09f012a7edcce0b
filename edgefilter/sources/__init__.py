"""Where samples come from.

A source is read at sample numbers, as often as one likes: this is what lets a reducer start anywhere.
"""
