"""Recipes: the schema, the YAML parser, and the shipped recipes."""

from bigs_cli.models.config import BiGSConfig
from bigs_cli.recipe.catalog import is_recipe_file, recipe_comment, recipe_kind, recipe_names, recipe_text
from bigs_cli.recipe.load import dump_recipe, load_recipe, load_run_recipe
from bigs_cli.recipe.schema import FinetuneRecipe, PretrainRecipe, Recipe

__all__ = [
    "BiGSConfig",
    "FinetuneRecipe",
    "PretrainRecipe",
    "Recipe",
    "dump_recipe",
    "is_recipe_file",
    "load_recipe",
    "load_run_recipe",
    "recipe_comment",
    "recipe_kind",
    "recipe_names",
    "recipe_text",
]
