"""Lists what there is to run."""

import gan
from evonorm_tf import commands

if __name__ == "__main__":
    commands.list_commands(gan)
