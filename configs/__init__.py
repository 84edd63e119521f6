"""Recipes as YAML, and every row of the paper's tables: `configs.tables`."""
