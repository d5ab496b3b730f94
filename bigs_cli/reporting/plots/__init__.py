"""Plots of runs and models, drawn with matplotlib: one module per kind of figure; `style` saves the figures."""
