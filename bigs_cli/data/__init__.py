"""Text to token batches: corpus readers, tokenizer, packing, shards, loader, masking."""
