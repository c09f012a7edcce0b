"""An example of what others bring to edgefilter: a stage with a table, a file format and a live input."""
