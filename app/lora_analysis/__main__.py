"""``python -m lora_analysis`` is the ``lora`` command."""

import sys


def main() -> None:
    """Run the command. Ctrl-C while it is loaded ends it as quietly as later."""
    try:
        from .cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: nothing was begun\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
