"""Helpers for all other packages: errors, files, paths, devices, the hub client, multi-process runs.

This package imports no other package of bigs.
"""
