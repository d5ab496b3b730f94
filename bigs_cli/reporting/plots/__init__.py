"""Pictures of runs and models, drawn with matplotlib: each module makes one kind of figure; `style` writes them."""
