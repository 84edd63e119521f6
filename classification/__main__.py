"""Lists what there is to run."""

import classification
from evonorm_tf import commands

if __name__ == "__main__":
    commands.list_commands(classification)
