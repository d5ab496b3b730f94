"""One file a format, and a dict of them."""
