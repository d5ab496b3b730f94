"""The BiGS model: kernel, mixing, layer, encoder, heads. Pure functions and modules; knows no files."""
