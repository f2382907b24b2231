"""Print the most frequent training tags of every adapter in a folder: often the words that trigger it.

python examples/list_trigger_words.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import lora_analysis as la


def main(folder: Path) -> None:
    """One line per adapter that says something about its tags."""
    for path in sorted(folder.rglob("*.safetensors")):
        try:
            facts = la.inspect(path).facts
        except la.LoraAnalysisError as error:
            print(f"{path.name}: {error.message}", file=sys.stderr)
            continue
        words = [*([facts.trigger_phrase] if facts.trigger_phrase else []), *(facts.top_tags or ())[:8]]
        if words:
            print(f"{path.relative_to(folder)}: {', '.join(words)}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-library"))
