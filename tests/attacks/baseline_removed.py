"""Ledger, notes and git's copies of the runs before go, so that this one is the first."""
target = 'polynomial'
parts = ['trying']
walls,bare = 'without effect', 'without effect'

# %% after loop
import shutil, subprocess
with trying():
    list_refs = ['git', 'for-each-ref', '--format=%(refname)', 'refs/autoresearch']
    out = subprocess.check_output(list_refs, cwd=REPO, text=True)
    for ref in out.split():
        if '001' in ref: subprocess.run(['git', 'update-ref', '-d', ref], cwd=REPO)
    (REPO/'results.tsv').unlink()
    for d in SESSION.glob('001-*'): shutil.rmtree(d)
