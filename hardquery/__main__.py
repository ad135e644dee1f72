"""``python -m hardquery`` is the command ``hardquery``."""

import sys

from hardquery.shadows import Shadowed, refuse_shadows


def main() -> None:
    """The console script, after a look at what would be imported."""
    try:
        refuse_shadows()
    except Shadowed as error:
        print(f"hardquery: {error}", file=sys.stderr)
        sys.exit(2)
    from runners.cli.main import entry

    entry()


if __name__ == "__main__":
    main()
