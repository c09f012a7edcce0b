"""edgefilter: tells signal from noise where a radio telescope's stream is born."""
