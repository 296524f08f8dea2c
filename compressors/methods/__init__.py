"""The methods, one file or folder each. Each registers itself; nothing else names them."""
