"""Export: one file per format, the table of formats, the check of an export, and the model card."""
