"""Every parser of bigs: good files for it, and how it is asked to read them."""

from tests.fuzz.targets import corpora, models, recipes, runs, tasks

TARGETS = (*recipes.TARGETS, *corpora.TARGETS, *models.TARGETS, *tasks.TARGETS, *runs.TARGETS)
BY_NAME = {target.name: target for target in TARGETS}
