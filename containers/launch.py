"""What the launcher of a Flex Template starts, with a template's parameters as options."""

import sys

from runners.remote.flex import launch

if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:]))
