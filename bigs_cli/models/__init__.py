"""The BiGS model: config, SSM, mixers, blocks, encoder, heads and their tables. Nothing here reads or writes files."""
