"""Rules of the code: layers, style, lengths."""
