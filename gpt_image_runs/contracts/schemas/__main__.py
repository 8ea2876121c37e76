"""Write the schemas beside this file: run `python -m gpt_image_runs.contracts.schemas` after changing a contract."""

import json
import sys
from pathlib import Path

from gpt_image_runs.contracts.schemas.generate import make_schemas

if __name__ == "__main__":
    for name, schema in make_schemas().items():
        path = Path(__file__).with_name(f"{name}.json")
        path.write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")
        sys.stdout.write(f"{path.name} is written.\n")
