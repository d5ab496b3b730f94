"""The typed schema of a recipe, and YAML to a checked recipe."""

from bigs_cli.models.config import BiGSConfig
from bigs_cli.recipe.catalog import recipe_comment, recipe_file, recipe_kind, recipe_names, recipe_path
from bigs_cli.recipe.load import dump_recipe, load_recipe
from bigs_cli.recipe.schema import FinetuneRecipe, PretrainRecipe, Recipe

__all__ = [
    "BiGSConfig",
    "FinetuneRecipe",
    "PretrainRecipe",
    "Recipe",
    "dump_recipe",
    "load_recipe",
    "recipe_comment",
    "recipe_file",
    "recipe_kind",
    "recipe_names",
    "recipe_path",
]
