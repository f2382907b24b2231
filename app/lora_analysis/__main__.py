"""``python -m lora_analysis`` is the ``lora`` command."""

from .cli import main

if __name__ == "__main__":
    main()
