"""make readme: what the code says of itself, written anew where people read it. The cells tagged
`live` of the pages, README.md from nbs/index.ipynb by nbconvert's Markdown exporter, and the
pictures of nbs/images from the outputs of the cells that drew them."""
import ast, base64, contextlib, json, os, re
from pathlib import Path
from autoresearch.docs import DRAWN

ROOT = Path(__file__).resolve().parent.parent


def cells_of(page): return json.loads(page.read_text(encoding='utf8'))['cells']

@contextlib.contextmanager
def chdir(folder): # contextlib has one from Python 3.11 on
    was = os.getcwd()
    os.chdir(folder)
    try: yield
    finally: os.chdir(was)

def live(page):
    """The cells of a page tagged `live` that show Markdown: (id, the text that is committed, the
    text that the code gives now)"""
    res,names = [],{}
    with chdir(page.parent):
        for c in cells_of(page):
            if 'live' not in c['metadata'].get('tags', []): continue
            *before,last = ast.parse(''.join(c['source'])).body
            exec(compile(ast.Module(before, []), c['id'], 'exec'), names)
            if not isinstance(last, ast.Expr):
                exec(compile(ast.Module([last], []), c['id'], 'exec'), names)
            else:
                was = ''.join(''.join(o['data']['text/markdown'])
                    for o in c['outputs'] if 'data' in o)
                res.append((c['id'], was,
                    eval(compile(ast.Expression(last.value), c['id'], 'eval'), names).data))
    return res

def pages():
    return [p for p in sorted((ROOT/'nbs').glob('*.ipynb'))
        if any('live' in c['metadata'].get('tags', []) for c in cells_of(p))]

def refresh(page):
    "Write what the code gives now into the outputs of the page's live cells"
    new = {i: text for i,_,text in live(page)}
    nb = json.loads(page.read_text(encoding='utf8'))
    for c in nb['cells']:
        if c['id'] not in new: continue
        data = {'text/markdown': new[c['id']].splitlines(True),
            'text/plain': ['<IPython.core.display.Markdown object>']}
        c['outputs'] = [dict(data=data, execution_count=None, metadata={},
            output_type='execute_result')]
    page.write_text(json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True)+'\n',
        encoding='utf8')

def drawn():
    """The pictures that notebooks show from nbs/images, by file name, from the outputs of the cells
    that drew them: the contract, the ratchet and the canvas draw nothing themselves"""
    res = {}
    for page,cells in DRAWN.items():
        shown = {
            c['id']: [o['data']['image/png'] for o in c['outputs']
                if 'image/png' in o.get('data', {})]
            for c in cells_of(ROOT/f'nbs/{page}.ipynb') if c['id'] in cells}
        for cell,name in cells.items():
            res[f'nbs/images/{name}'] = base64.b64decode(''.join(shown[cell][0]))
    return res

def described(text):
    "Markdown of the index with each picture described as its cell does"
    given = lambda c: ((m := re.search(r'^#\| fig-alt: (.*)$', ''.join(c['source']), re.M))
        and m[1] or c['metadata'].get('nbdev', {}).get('fig-alt'))
    alts = [alt.strip('"') for c in cells_of(ROOT/'nbs/index.ipynb') if (alt := given(c))]
    return re.sub(r'!\[png\]', lambda m: f'![{alts.pop(0)}]', text)

def render():
    "README's text and all pictures by file name, from the committed outputs; nothing is executed"
    from nbconvert import MarkdownExporter
    from traitlets.config import Config
    cfg = Config()
    cfg.TagRemovePreprocessor.enabled = True
    cfg.TagRemovePreprocessor.remove_input_tags = {'hide-input'}
    text,res = MarkdownExporter(config=cfg).from_filename(str(ROOT/'nbs/index.ipynb'),
        resources={'output_files_dir': 'nbs/images'})
    text = re.sub(r'^#\| export\n+', '', described(text), flags=re.M).replace(
        '](images/', '](nbs/images/')
    text = re.sub(r'\]\((\w+\.ipynb[#)])', r'](nbs/\1', text)
    text = text.replace('](../', '](')
    head = '<!-- made from nbs/index.ipynb by `make readme`: edit that -->\n\n'
    text = '\n'.join(l.rstrip() for l in text.split('\n'))
    return head + re.sub(r'\n{3,}', '\n\n', text).strip() + '\n', {**res['outputs'], **drawn()}

def main():
    for page in pages(): refresh(page)
    text,pictures = render()
    (ROOT/'README.md').write_text(text)
    (ROOT/'nbs/images').mkdir(exist_ok=True)
    for name,data in pictures.items(): (ROOT/name).write_bytes(data)

if __name__ == '__main__': main()
