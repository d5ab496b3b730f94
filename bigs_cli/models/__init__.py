"""The BiGS model: config, SSM, mixers, blocks, encoder, heads, and their tables. Pure: reads and writes no files."""
