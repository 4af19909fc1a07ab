#!/usr/bin/env bash
# Surprise: `import executorch.exir` reads a YAML file of 138 kB, types of the operators of its edge
# dialect, with a parser written in Python. executorch asks ruamel.yaml for its "safe" loader, which
# takes the parser in C where there is one, but since ruamel.yaml 0.19 that is an extra
# (`oldlibyaml`, `libyaml`) that executorch's requirements do not name. The values read are equal.
#
# Seen with executorch 1.5.1, ruamel.yaml 0.19.1 and ruamel.yaml.clib 0.2.15 (pip, Linux x86-64):
# the file takes more than three times as long without the package as with it.
# Why it matters here: a build that finds its program lowered already does little else than import.
#
# Prints what stands in `expected` below, and fails when that changes. Needs Python 3.11 or newer,
# 100 MB of disk and the network.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-deps executorch==1.5.1 ruamel.yaml==0.19.1
cat >expected <<'TEXT'
executorch requires: ['ruamel.yaml']
parser: ruamel.yaml.parser.Parser
parser: ruamel.yaml.clib._ruamel_yaml.CParser
equal values: True
more than three times as long: True
TEXT
cat >load.py <<'PYTHON'
import json
import sys
import time
from importlib.metadata import files
from ruamel.yaml import YAML

(path,) = (f for f in files("executorch") if str(f).endswith("exir/dialects/edge/edge.yaml"))
text = path.read_text(encoding="utf-8")
print(f"parser: {YAML(typ='safe').Parser.__module__}.{YAML(typ='safe').Parser.__name__}")
times = []
for _ in range(3):
    yaml = YAML(typ="safe")
    started = time.process_time()
    values = yaml.load(text)
    times.append(time.process_time() - started)
with open(sys.argv[1], "w") as file:
    json.dump((min(times), values), file)
PYTHON
{
  venv/bin/python -c "
from importlib.metadata import requires
print('executorch requires:', [r for r in requires('executorch') if r.startswith('ruamel')])"
  venv/bin/python load.py python
  venv/bin/pip install --quiet --no-deps ruamel.yaml.clib==0.2.15
  venv/bin/python load.py c
  venv/bin/python -c "
import json
(slow, one), (fast, other) = (json.load(open(name)) for name in ('python', 'c'))
print('equal values:', one == other)
print('more than three times as long:', slow > 3 * fast)"
} >output
cat output
diff expected output
