"""nbdev's own checks, without Quarto: export and clean leave no difference, every notebook runs;
with --all also the cells marked slow."""
import os, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PATHS = ['nbs', 'autoresearch', 'README.md']

def snapshot():
    "What export and clean may write, as it is"
    found = []
    for path in (ROOT/p for p in PATHS):
        found += [path] if path.is_file() else sorted(path.rglob('*'))
    return {f: f.read_bytes() for f in found if f.suffix in ('.py', '.ipynb', '.md', '.txt')}

def run(*cmd):
    print('$', *cmd, flush=True)
    env = {**os.environ, 'AUTORESEARCH_PROFILE': 'tiny'}
    if code := subprocess.run(cmd, cwd=ROOT, env=env).returncode: sys.exit(code)

before = snapshot()
run('nbdev-export')
run('nbdev-clean')
after = snapshot()
every = sorted(before.keys() | after.keys())
if changed := [str(f.relative_to(ROOT)) for f in every if before.get(f) != after.get(f)]:
    sys.exit(f'nbdev-export and nbdev-clean changed {", ".join(changed)}: '
        'edit the notebook, export, clean, commit')
run('ar-prepare')
slow = ['--flags', 'slow'] if '--all' in sys.argv else [] # cells that make test leaves out
run('nbdev-test', '--n-workers', '3', *slow) # on two cores: some of their time is waiting
