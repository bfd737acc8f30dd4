"""make readme: README.md from nbs/index.ipynb, by nbconvert's Markdown exporter; pictures go to nbs/images."""
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

def render():
    "README's text and its pictures by file name, from the committed outputs; nothing is executed"
    from nbconvert import MarkdownExporter
    from traitlets.config import Config
    cfg = Config()
    cfg.TagRemovePreprocessor.enabled = True
    cfg.TagRemovePreprocessor.remove_input_tags = {'hide-input'}
    text,res = MarkdownExporter(config=cfg).from_filename(str(ROOT/'nbs/index.ipynb'), resources={'output_files_dir': 'nbs/images'})
    text = re.sub(r'!\[png\]\((nbs/images/[^)]+)\)', r'![The staircase: the best value so far, experiment by experiment](\1)', text)
    text = text.replace('](images/', '](nbs/images/')
    text = re.sub(r'\]\((\d\d_\w+\.ipynb)\)', r'](nbs/\1)', text)
    text = text.replace('](../', '](')
    head = '<!-- made from nbs/index.ipynb by `make readme`: edit that -->\n\n'
    text = '\n'.join(l.rstrip() for l in text.split('\n'))
    return head + re.sub(r'\n{3,}', '\n\n', text).strip() + '\n', res['outputs']

def main():
    text,pictures = render()
    (ROOT/'README.md').write_text(text)
    (ROOT/'nbs/images').mkdir(exist_ok=True)
    for name,data in pictures.items(): (ROOT/name).write_bytes(data)

if __name__ == '__main__': main()
