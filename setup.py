"""All else stands in pyproject.toml. A wheel carries what `ar-new` lays out and what `ar-report`
and `ar-dashboard` run, as a checkout has it."""
import shutil
from pathlib import Path
from setuptools import setup
from setuptools.command.build_py import build_py

FILES = ['settings.ini', 'program.md',
    'nbs/02_train.ipynb', 'nbs/30_report.ipynb', 'nbs/31_dashboard.ipynb']
EXAMPLE = ['.gitattributes', '*.ini', '*.ipynb', '*.py', '*.md'] # not what a run left there

class WithFiles(build_py):
    "Copies them into the package; an editable installation reads the checkout's own"
    def run(self):
        super().run()
        if self.editable_mode: return
        there = [f for pattern in FILES + [f'examples/*/{o}' for o in EXAMPLE]
            for f in Path().glob(pattern)]
        for f in there:
            copy = Path(self.build_lib)/'autoresearch/files'/f
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(f, copy)

setup(cmdclass=dict(build_py=WithFiles))
