"""PyTorch code that is copied into an export; `bigs` itself runs it only to check the export."""
