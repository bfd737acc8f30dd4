"""nbdev's own checks: export and clean leave no difference, every notebook runs. Quarto is not needed."""
import os, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PATHS = ['nbs', 'autoresearch', 'README.md']

def snapshot(): return {f: f.read_bytes() for p in PATHS for f in ([ROOT/p] if (ROOT/p).is_file() else sorted((ROOT/p).rglob('*')))
    if f.suffix in ('.py', '.ipynb', '.md', '.txt')}

def run(*cmd):
    print('$', *cmd, flush=True)
    if code := subprocess.run(cmd, cwd=ROOT, env={**os.environ, 'AUTORESEARCH_PROFILE': 'tiny'}).returncode: sys.exit(code)

before = snapshot()
run('nbdev-export')
run('nbdev-clean')
after = snapshot()
if changed := [str(f.relative_to(ROOT)) for f in sorted(before.keys() | after.keys()) if before.get(f) != after.get(f)]:
    sys.exit(f'nbdev-export and nbdev-clean changed {", ".join(changed)}: edit the notebook, export, clean, commit')
run('ar-prepare')
run('nbdev-test', '--n-workers', '2')
