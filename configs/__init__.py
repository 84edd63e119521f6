"""Recipes and tables as YAML; `python -m configs.tables` lists the rows."""

from evonorm_tf import commands

commands.start()
