"""Lists what there is to run."""

import evonorm_tf
from evonorm_tf import commands

if __name__ == "__main__":
    commands.list_commands(evonorm_tf)
