"""Every parser of bigs, with valid files for it and a function that reads them."""

from tests.fuzz.targets import corpora, models, recipes, runs, tasks

TARGETS = (*recipes.TARGETS, *corpora.TARGETS, *models.TARGETS, *tasks.TARGETS, *runs.TARGETS)
BY_NAME = {target.name: target for target in TARGETS}
