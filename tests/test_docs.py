"""The site: every page goes through nbdev, every link leads somewhere, every picture is described;
and each check can fail"""
import ast, base64, html, io, json, os, re, shutil, subprocess, sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
import pytest
import readme
from autoresearch.docs import (DARK_GROUND, DocsError, Slider, _FENCE, commands, contrast,
    foreign_faults, grounds, plotly_js, process, sidebar, site_faults, tokens, variables, write_texts)
from test_browser import browser # a fixture: headless Chromium, or a skip that says why

ROOT = Path(__file__).parent.parent

@pytest.fixture
def copy(tmp_path):
    "What the site is made of, to be broken"
    for name in ('pyproject.toml', 'settings.ini', '_quarto.yml',
            *(f.name for f in ROOT.glob('*.md'))):
        shutil.copy(ROOT/name, tmp_path)
    for name in ('nbs', 'bench', 'examples'):
        shutil.copytree(ROOT/name, tmp_path/name, symlinks=True,
            ignore=shutil.ignore_patterns('.ipynb_checkpoints', '__pycache__'))
    # nbdev looks for the package
    shutil.copytree(ROOT/'autoresearch', tmp_path/'autoresearch',
        ignore=shutil.ignore_patterns('__pycache__'))
    return tmp_path

def cells(page): return json.loads(page.read_text())['cells']

def change(page, f):
    "Change a notebook by a function of its cells"
    nb = json.loads(page.read_text())
    f(nb['cells'])
    page.write_text(json.dumps(nb))

def md(i, text): return dict(cell_type='markdown', id=i, metadata={}, source=text)
def code(i, text, **data):
    return dict(cell_type='code', id=i, metadata={}, source=text, execution_count=None,
        outputs=[dict(output_type='display_data', data=data, metadata={})] if data else [])

def docs(root, *args, **env):
    "ar-docs as its console script calls it, which need not be installed yet"
    (root/'command.py').write_text('from autoresearch.docs import ar_docs\nar_docs()\n')
    return subprocess.run([sys.executable, 'command.py', *args], cwd=root, capture_output=True,
        text=True, env={**os.environ, 'PYTHONPATH': str(ROOT), **env}, timeout=200)

@pytest.fixture(scope='module')
def known():
    "The faults of the site as it is, none of which a copy that is broken adds"
    return site_faults(ROOT)

def test_the_site_has_no_fault(known): assert known == []

@pytest.mark.slow
def test_every_check_can_fail(copy, known):
    change(copy/'nbs/recipes.ipynb', lambda cs: cs.extend([
        md('a', '[x](gone.ipynb) [y](15_ratchet.ipynb#no-such) [z](#nor-this) '
            '[c](02_train.ipynb#no-cell) [h](https://example.org/any)'),
        md('b', '[x](../pyproject.toml)'),
        md('c', '![](images/packing.png) ![  ](images/packing.png)'),
        md('d', 'a picture: <img src="images/packing.png">'),
        code('e', 'draw()', **{'image/png': 'aGk='}),
        code('f', '#| fig-alt: ""\ndraw()', **{'image/png': 'aGk='}),
        code('g', 'show()', **{'text/markdown': '| [t](gone-too.ipynb) |\n| --- |'}),
        code('h', 'html()', **{'text/html': '<img alt="" src="x.png">'}),
        code('i', 'js()', **{'text/html': '<b id="why">x</b><script src="//elsewhere/x.js">'}),
        md('j', '## Again {#again}\n\n[x]{#again}\n\n```\nno language\n```')]))
    with (copy/'nbs/styles.css').open('a') as f: f.write('@import "https://elsewhere/f.css";')
    (copy/'nbs/images/protocol.png').unlink()
    shutil.copy(copy/'nbs/agents.ipynb', copy/'nbs/stray.ipynb')
    (copy/'_quarto.yml').write_text((copy/'_quarto.yml').read_text().replace(
        'agents.ipynb, recipes.ipynb,',
        'agents.ipynb, agents.ipynb, recipes.ipynb, nowhere.ipynb,'))
    for name in ('README.md', 'program.md', 'CONTRIBUTING.md'):
        with (copy/name).open('a') as f:
            f.write(f'\n\n[l](gone-from-{name})\n\n```\n[no](link-in-code)\n```\n')
    new = [f for f in site_faults(copy) if f not in known]
    assert sorted(new) == sorted([
        'recipes.ipynb: the link gone.ipynb leads nowhere',
        'recipes.ipynb: 15_ratchet.ipynb has no heading for 15_ratchet.ipynb#no-such',
        'recipes.ipynb: recipes.ipynb has no heading for #nor-this',
        'recipes.ipynb: 02_train.ipynb has no heading for 02_train.ipynb#no-cell',
        'recipes.ipynb: the link ../pyproject.toml leaves the site; '
            'give the file a page in HOMES of nbs/32_docs.ipynb',
        'recipes.ipynb: the picture images/packing.png has no description between its brackets',
        'recipes.ipynb: cell d: <img src="images/packing.png"> has no alt',
        'recipes.ipynb: cell e draws a picture; it needs a line #| fig-alt: "..."',
        'recipes.ipynb: cell f draws a picture; it needs a line #| fig-alt: "..."',
        'recipes.ipynb: the link gone-too.ipynb leads nowhere',
        'recipes.ipynb: cell h: <img alt="" src="x.png"> has no alt',
        'recipes.ipynb: it asks another server: <script src="//elsewhere/x.js',
        'recipes.ipynb: the id again is given twice',
        'recipes.ipynb: a block of code names no language: no language',
        'styles.css: it asks another server: @import "https://elsewhere/f.css',
        '15_ratchet.ipynb: the link images/protocol.png leads nowhere',
        '_quarto.yml: stray.ipynb is not in the sidebar',
        '_quarto.yml: the sidebar names nowhere.ipynb, which is not in nbs',
        '_quarto.yml: the sidebar names agents.ipynb twice',
        *[f'{n}: the link gone-from-{n} leads nowhere'
            for n in ('README.md', 'program.md', 'CONTRIBUTING.md')]])

@pytest.mark.slow
def test_a_page_that_nbdev_cannot_process_is_named(copy, tmp_path_factory):
    change(copy/'nbs/recipes.ipynb', lambda cs: cs.insert(0, dict(
        cell_type='raw', id='front', metadata={}, source='---\ntitle: [never closed\n---')))
    with pytest.raises(DocsError, match='nbs/recipes.ipynb: nbdev could not process it'):
        process(tmp_path_factory.mktemp('made'), copy)

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "The processed pages, of which Quarto makes the site"
    return process(tmp_path_factory.mktemp('made'), ROOT)

def test_processed_pages_show_the_code(made):
    canvas = cells(made/'02_train.ipynb')
    sources = [''.join(c['source']) for c in canvas]
    at = next(i for i,s in enumerate(sources) if s == '[`muon`]{#muon}')
    assert (sources[at+1].startswith('def muon_step(')
        and "title: 'The canvas: a GPT in five minutes'" in sources[0])
    assert ({c['id'] for c in cells(ROOT/'nbs/02_train.ipynb') if c['cell_type'] == 'code'}
        - {'exp'} == set(re.findall(r'`\]\{#([\w-]+)\}', '\n'.join(sources))))
    assert '## Attention {#attention-h}' in sources, 'called like a cell, so it has its own name'
    for page in made.glob('*.ipynb'):
        text = '\n'.join(''.join(c['source']) for c in cells(page) if c['cell_type'] == 'code')
        assert not re.search(r'^#\| *(export|default_exp)', text, re.M), page.name
    index = '\n'.join(''.join(c['source']) for c in cells(made/'index.ipynb'))
    assert '[`program.md`](agents.ipynb)' in index and '[`settings.ini`](reference.ipynb)' in index
    prose = '\n'.join(''.join(c['source']) for page in made.glob('*.ipynb')
        for c in cells(page) if c['cell_type'] == 'markdown')
    assert not re.search(r'^#\|', prose, re.M), "nbdev's directives are no text"
    pictures = re.findall(r'!\[.*', prose)
    assert ('![](images/dashboard.png){fig-alt="The dashboard' in prose
        and all(o.startswith('![](') for o in pictures)), 'a description is no caption'
    assert 'figures/band-dark.png" class="img-fluid on-dark"' in prose, 'a figure is there twice'
    assert (made/'styles.css').read_text() == (ROOT/'nbs/styles.css').read_text()

def test_notebooks_that_are_named_are_there():
    """A notebook's number is its floor and may change; its name stands in prose, in comments and
    in settings, where no link is checked"""
    said = [f for p in ('*.md', '*.ini', '*.toml', '*.yml', 'Makefile', 'nbs/*.ipynb',
        'bench/**/*.py', 'examples/**/*.md', 'autoresearch/*.py') for f in ROOT.glob(p)]
    named = {(f.name, name) for f in said if f.name != 'CHANGELOG.md'
        for name in re.findall(r'\b\d\d_[a-z]+\.ipynb', f.read_text())}
    assert len(named) > 30 and not [o for o in named if not (ROOT/'nbs'/o[1]).is_file()]

def test_llms_txt_tells_an_agent_where_to_begin():
    """And does not list the canvas: an experiment may rewrite its opening, and with it no other
    file than the module"""
    text = (ROOT/'nbs/llms.txt').read_text()
    assert ('program.md' in text and '`autoresearch.docs`' in text
        and 'autoresearch.train' not in text)

def test_modules_import_from_lower_floors():
    "And on their own floor from the left; only the canvas looks to its right, at the kernels"
    floor = {f.stem[3:]: int(f.stem[:2]) for f in (ROOT/'nbs').glob('[0-9][0-9]_*.ipynb')}
    found = set()
    for name in floor:
        for node in ast.walk(ast.parse((ROOT/f'autoresearch/{name}.py').read_text())):
            # nbdev makes relative imports of our own
            if isinstance(node, ast.ImportFrom) and node.level:
                found |= {(name, o) for o in ([node.module.split('.')[0]] if node.module else
                    [a.name for a in node.names]) if o in floor}
    assert (len(found) > 20
        and {(a, b) for a,b in found if floor[b] > floor[a]} == {('train', 'kernels')})

def test_pictures_are_light():
    """At most 60 kB each on the pages of the tour, so that a page is there at once and a diff of
    one stays small"""
    sizes = {(p.name, c['id']): len(''.join(o['data']['image/png']))*3//4
        for p in [*ROOT.glob('nbs/tour_*.ipynb'), ROOT/'nbs/32_docs.ipynb']
        for c in cells(p) if c['cell_type'] == 'code' for o in c['outputs']
        if 'image/png' in o.get('data', {})}
    assert len(sizes) > 9 and max(sizes.values()) <= 60_000, sizes

def test_reading_order():
    order = [n for _,n in sidebar(ROOT)]
    tour = ('index tour_why 01_prepare tour_model tour_optimizer tour_loop 12_run 11_judge '
        '15_ratchet 20_search 30_report 31_dashboard agents recipes reference 03_kernels'.split())
    assert [n for n in order if n.removesuffix('.ipynb') in tour] == [f'{n}.ipynb' for n in tour]

@pytest.mark.parametrize('page', readme.pages(), ids=lambda p: p.stem)
def test_nothing_is_stale(page):
    "What a page shows of the code, the settings or program.md is what they say now"
    assert (shown := readme.live(page))
    for cell,was,now in shown: assert was == now, f'{page.name}, cell {cell}: run make readme'

def said_by_the_code():
    "Every text that stands in a module, adjoining pieces together"
    modules = [f for f in (ROOT/'autoresearch').glob('*.py') if f.stem != 'agents'] # which quotes it
    trees = [ast.parse(f.read_text()) for f in modules]
    return '\n'.join(n.value for tree in trees for n in ast.walk(tree)
        if isinstance(n, ast.Constant) and isinstance(n.value, str))

def lacking(texts):
    "Those of some quoted messages of which a piece between figures stands in no module"
    code = said_by_the_code()
    pieces = lambda text: re.split(r'\d+\.\d+ ?s?|\.\.\.|, later,|TAG', text)
    return [text for text in texts if any(o.strip() not in code for o in pieces(text))]

def test_messages_that_are_quoted_are_those_of_the_code():
    "What an explanation and the recipes say of a refusal is what an agent will read"
    from autoresearch.agents import TOPICS
    recipe = next(''.join(c['source']) for c in cells(ROOT/'nbs/recipes.ipynb')
        if c['id'] == 'examined')
    quoted = [o for text in (*(' '.join(v.split()) for v in TOPICS.values()), recipe)
        for o in re.findall(r'`([^`\n]+)`', text)
        if o.count(' ') > 3 and '(self' not in o and '=' not in o]
    assert len(quoted) > 6 and not lacking(quoted), lacking(quoted)
    assert lacking(['its logits depend on earlier tokens'])

def test_staleness_can_fail(copy):
    (copy/'program.md').write_text((copy/'program.md').read_text() + '\n# A new order\n')
    assert [i for i,was,now in readme.live(copy/'nbs/agents.ipynb') if was != now] == ['orders']
    assert '### A new order' in readme.live(copy/'nbs/agents.ipynb')[0][2]
    (copy/'settings.ini').write_text(
        (copy/'settings.ini').read_text().replace('time_budget = 20\n', 'time_budget = 21\n'))
    assert [i for i,was,now in readme.live(copy/'nbs/reference.ipynb')
        if was != now] == ['settings']

def test_every_command_is_in_the_reference():
    text = commands(ROOT)
    scripts = re.findall(r'^(ar-[a-z-]+) = ', (ROOT/'pyproject.toml').read_text(), re.M)
    assert scripts and re.findall(r'^### (.+)', text, re.M) == scripts
    assert '`--num-shards INT`' in text and '`ar-cells edit`' in text
    assert '| `changes[].diff` | string |' in text and text.count('`--json` answers') == len(scripts)

def test_a_variable_that_nobody_explains(tmp_path):
    (tmp_path/'new.py').write_text("import os\nx = os.environ.get('AUTORESEARCH_MOOD', '')")
    with pytest.raises(DocsError, match='AUTORESEARCH_MOOD, in new, is not explained'):
        variables(tmp_path)

def test_every_variable_is_found():
    "However a module reads it: no name in the modules is missing from the table"
    named = {v for f in (ROOT/'autoresearch').glob('*.py') if f.stem not in ('docs', '_modidx')
        for v in re.findall(r'\bAUTORESEARCH_[A-Z_]+', f.read_text())}
    assert named == set(re.findall(r'AUTORESEARCH_\w+', variables(ROOT/'autoresearch')))

def everything(root):
    "Every file and folder, and when each was written"
    return ({f: f.lstat().st_mtime_ns for f in root.rglob('*') if f.is_symlink() or not f.is_dir()}
        | {f: 0 for f in root.rglob('*') if f.is_dir()})

def test_a_check_leaves_nothing(copy, tmp_path_factory):
    tmp = tmp_path_factory.mktemp('tmp')
    (copy/'command.py').write_text('from autoresearch.docs import ar_docs\nar_docs()\n')
    before = everything(copy)
    for broken in (False, True):
        if broken:
            change(copy/'nbs/recipes.ipynb', lambda cs: cs.insert(0, dict(
                cell_type='raw', id='front', metadata={}, source='---\ntitle: [never closed\n---')))
            before = everything(copy)
        r = subprocess.run([sys.executable, 'command.py', '--check'], cwd=copy,
            capture_output=True, text=True, timeout=200,
            env={**os.environ, 'PYTHONPATH': str(ROOT), 'TMPDIR': str(tmp),
                'PYTHONDONTWRITEBYTECODE': '1'})
        assert r.returncode == broken, r
        assert (re.match('ar-docs: nbs/recipes.ipynb: .*could not process', r.stderr) if broken
            else 'pages, no fault' in r.stdout), r
        assert everything(copy) == before and not list(tmp.iterdir())

@pytest.mark.parametrize('text', ['website: [', 'website: {}', '[1]', ''])
def test_a_sidebar_that_is_none_is_named(copy, text):
    (copy/'_quarto.yml').write_text(text)
    r = docs(copy, '--check')
    assert (r.returncode == 1 and r.stderr.startswith('ar-docs: ') and '_quarto.yml' in r.stderr
        and 'Traceback' not in r.stderr), r.stderr

def test_without_quarto(copy):
    r = docs(copy, PATH=str(copy/'no-such-folder'))
    assert (r.returncode == 1 and 'https://quarto.org/docs/get-started/' in r.stderr
        and 'Traceback' not in r.stderr and not (copy/'_docs').exists())

def test_outside_of_a_checkout(tmp_path):
    "The package's own checkout, as with every command"
    r = docs(tmp_path, PATH='')
    assert r.returncode == 1 and r.stderr.startswith('ar-docs: Quarto is not installed')

QUARTO = '''#!/bin/sh
# lays nothing out: notes what it was asked and leaves a page where Quarto would
echo "$@" >> "$QUARTO_ASKED"
if [ "$1" = inspect ]; then echo '{"config": {"project": {"type": "default"}}}'; exit; fi
for last; do :; done
mkdir -p "$last" && cp index.ipynb "$last/index.html"
'''

@pytest.mark.slow
def test_with_quarto_the_site_lands_in_docs(copy):
    """nbdev's part is real; in place of the layout stands a script, for Quarto is no package that
    a test could install"""
    (copy/'bin').mkdir()
    (copy/'bin/quarto').write_text(QUARTO)
    (copy/'bin/quarto').chmod(0o755)
    r = docs(copy, PATH=f'{copy}/bin:{os.environ["PATH"]}', QUARTO_ASKED=str(copy/'asked'))
    assert r.returncode == 0 and r.stdout.splitlines()[-1] == '_docs/index.html', r.stdout+r.stderr
    assert ('output-file: index.html' in (copy/'_docs/index.html').read_text()
        and 'render' in (copy/'asked').read_text())
    for name in ('llms.txt', 'tour_why.md', 'plotly.min.js'):
        assert (copy/'_docs'/name).is_file(), 'what Quarto does not make, ar-docs adds'

@pytest.mark.slow
def test_quarto_is_not_asked_for_a_broken_site(copy):
    (copy/'bin').mkdir()
    (copy/'bin/quarto').write_text(QUARTO)
    (copy/'bin/quarto').chmod(0o755)
    change(copy/'nbs/index.ipynb', lambda cs: cs.append(md('x', '[x](gone.ipynb)')))
    r = docs(copy, PATH=f'{copy}/bin:{os.environ["PATH"]}', QUARTO_ASKED=str(copy/'asked'))
    assert (r.returncode == 1 and 'index.ipynb: the link gone.ipynb leads nowhere' in r.stderr
        and not (copy/'asked').exists())

def test_outputs_ask_no_other_server(made):
    """HTML in an output would make Quarto add scripts from two other servers; and no page has any
    by itself"""
    kinds = {k for page in made.glob('*.ipynb') for c in cells(page)
        for o in c.get('outputs', []) for k in o.get('data', {})}
    assert kinds == {'text/plain', 'text/markdown'}
    quarto = (ROOT/'_quarto.yml').read_text()
    assert 'html-math-method: mathml' in quarto and quarto.count('.scss]') == 2
    for theme in ('light', 'dark'):
        assert '$web-font-path: false;' in (ROOT/f'nbs/{theme}.scss').read_text()
    assert all(not foreign_faults(f) for f in ROOT.glob('nbs/*.js'))

def png(draw=(255, 255, 255), size=(40, 20)):
    from PIL import Image
    file = io.BytesIO()
    Image.new('RGB', size, draw).save(file, 'PNG')
    return file.getvalue()

def pixels(look):
    raw = look.tobytes()
    return [tuple(raw[i:i+4]) for i in range(0, len(raw), 4)]

def test_figures_have_no_ground(made):
    """Each is there for both themes, transparent where it was white, its letters can be read, and
    nothing is cut at its edges"""
    from PIL import Image, ImageChops
    names = sorted(f.name for f in (made/'figures').iterdir())
    assert len(names) > 40 and ([n.replace('dark', 'light') for n in names if '-dark' in n]
        == [n for n in names if '-light' in n])
    for name in names:
        look = Image.open(made/'figures'/name).convert('RGBA')
        corner = look.getpixel((0, 0))
        assert corner[3] == 0 or max(corner[:3]) < 99, f'{name} has a light ground'
        alpha = look.getchannel('A')
        inner = alpha.crop((1, 1, look.width-1, look.height-1))
        edge = Image.new('L', look.size)
        edge.paste(inner, (1, 1))
        whole = not ImageChops.difference(alpha, edge).getbbox()
        assert corner[3] or whole, f'{name} is cut at an edge'
    for theme,ground in (('light', '#ffffff'), ('dark', DARK_GROUND)):
        look = Image.open(made/f'figures/tour_loop-schedules-0-{theme}.png').convert('RGBA')
        solid = [p for p in pixels(look) if p[3] > 250]
        most = max(set(solid), key=solid.count) # the ink of axes and letters
        assert contrast('#%02x%02x%02x' % most[:3], ground) > 12, (theme, most)
    square = Image.new('RGB', (40, 20), 'white')
    square.paste('black', (10, 5, 30, 15))
    square.save(file := io.BytesIO(), 'PNG')
    dark = Image.open(io.BytesIO(grounds(file.getvalue())['dark'])).convert('RGBA')
    assert dark.getpixel((1, 1))[3] == 0 and min(dark.getpixel((20, 10))) > 240

def test_the_published_site_is_what_ar_docs_makes():
    "Nothing but the command builds it, and its folder is what goes to GitHub Pages"
    import yaml
    flow = yaml.safe_load((ROOT/'.github/workflows/docs.yaml').read_text())
    build,deploy = (flow['jobs'][k]['steps'] for k in ('build', 'deploy'))
    runs = [o['run'] for o in build if 'run' in o]
    uses = {o['uses'].split('@')[0]: o.get('with', {}) for o in [*build, *deploy] if 'uses' in o}
    out = yaml.safe_load((ROOT/'_quarto.yml').read_text())['project']['output-dir']
    assert runs[:2] == ['make install', '.venv/bin/ar-docs'] and f'{out}/llms.txt' in runs[2]
    assert uses['actions/upload-pages-artifact'] == dict(path=out)
    assert {'quarto-dev/quarto-actions/setup', 'actions/deploy-pages'} <= set(uses)
    assert flow['jobs']['deploy']['permissions'] == {'pages': 'write', 'id-token': 'write'}

def test_pages_for_programs(tmp_path):
    "A Markdown file for each page of the sidebar, in its order in llms.txt; links stay among them"
    written = write_texts(tmp_path, ROOT)
    order = [Path(name).stem for _,name in sidebar(ROOT)]
    assert [f.name for f in written] == [*(f'{o}.md' for o in order), 'llms.txt']
    listed = (tmp_path/'llms.txt').read_text()
    assert re.findall(r'^- \[.+\]\((\w+)\.md\): .', listed, re.M) == order
    assert listed.index('## The tour') < listed.index('## Modules') and '<!--' not in listed
    for f in tmp_path.glob('*.md'):
        text = f.read_text()
        assert text.startswith('# ') and '```python\n#|' not in text, f.name
        urls = [t['attrs']['url'].split('#')[0] for t in tokens(text) if t['type'] == 'link']
        gone = {o for o in urls if o and ':' not in o and not (tmp_path/o).exists()}
        assert not gone, (f.name, gone)
    loop = (tmp_path/'tour_loop.md').read_text()
    assert '*Picture: ' in loop and '```python\nprogress = ' in loop and 'Figure size' not in loop

def test_the_picture_on_the_front_page():
    "Nothing is cut, no label lies on another one, on a point or on the stairs"
    from PIL import Image
    told = {c['id']: ''.join(c['source']) for c in cells(ROOT/'nbs/index.ipynb')}
    names = {}
    with readme.chdir(ROOT/'nbs'):
        for cell in ('imports', 'staircase'): exec(told[cell], names)
    fig = names['shown']
    fig.canvas.draw()
    ax = fig.axes[0]
    stairs = ax.lines[0].get_path().transformed(ax.lines[0].get_transform())
    labels = {t.get_text(): t.get_window_extent() for t in ax.texts}
    ticks = [t for axis in (ax.xaxis, ax.yaxis) for t in axis.get_ticklabels()
        if min(axis.get_view_interval()) <= t.get_position()[axis is ax.yaxis]
        <= max(axis.get_view_interval())]
    beside = {t.get_text(): t.get_window_extent() for t in [ax.title, ax.xaxis.label,
        ax.yaxis.label, *ticks, *ax.get_legend().get_texts()]}
    dots = [tuple(ax.transData.transform(p)) for o in ax.collections for p in o.get_offsets()]
    assert len(labels) == 5 and len(dots) == 25 and len(beside) > 12
    for name,box in labels.items():
        assert ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1 and ax.bbox.y0 <= box.y0, name
        assert not any(box.overlaps(o) for n,o in labels.items() if n != name), name
        assert not stairs.intersects_bbox(box, filled=False), f'{name} lies on the stairs'
    for name,box in {**labels, **beside}.items():
        assert not any(box.padded(2).contains(*d) for d in dots), name
        assert fig.bbox.x0 <= box.x0 and box.x1 <= fig.bbox.x1, f'{name} is cut'
        assert fig.bbox.y0 <= box.y0 and box.y1 <= fig.bbox.y1, f'{name} is cut'
    small = min(o.get_fontsize() for o in ax.texts)
    drawn = Image.open(io.BytesIO(fig._repr_png_())).width
    assert small*fig.dpi/72*(360-48)/drawn >= 6, 'letters on a phone, in pixels of the page'

DRAWING = r'\b(ax|axes|left|right|fig|plt)\.\w+\(|\bfigure\(|\.subplots\('
def test_what_draws_is_folded(made):
    """A page's reader sees the picture first; who wants the code opens it. But the functions that a
    module exports are what its page is about, and the canvas' cells are the agent's."""
    told = {(p.stem, c['id'].removeprefix('cell-')): ''.join(c['source'])
        for p in made.glob('*.ipynb') for c in cells(p) if c['cell_type'] == 'code'}
    unfolded = {k for k,v in told.items() if not re.search(r'^#\| code-fold: true$', v, re.M)}
    plots,helpers = set(), set()
    for p in ROOT.glob('nbs/*.ipynb'):
        for c in cells(p):
            source = ''.join(c['source'])
            code = re.sub(r'^#\|.*\n?', '', source, flags=re.M)
            if c['cell_type'] != 'code' or len(code.splitlines()) < 6: continue
            if 'image/png' in json.dumps(c['outputs']): plots.add((p.stem, c['id']))
            elif re.search(DRAWING, code) and not re.search(r'^#\| *export', source, re.M):
                helpers.add((p.stem, c['id']))
    assert len(plots) > 20 and ('12_run', 'watch-picture') in plots and not plots & unfolded
    assert len(helpers) > 3 and not {k for k in helpers & unfolded
        if k[0] not in ('02_train', '31_dashboard')}

@pytest.mark.parametrize('page', sorted(ROOT.glob('nbs/*.ipynb')), ids=lambda p: p.stem)
def test_outputs_are_of_no_machine(page):
    "No path of whoever ran a notebook, no warning: who reads it has neither"
    found = re.compile(r'/tmp/(?:tmp|ipykernel)\w*|/home/(?!me\b)\w+/[a-z]\w*/|/root/|/site-packages/|'
        r'/Users/|\b\w*Warning: |Traceback \(most')
    assert found.search('UserWarning: no artists') and found.search('../../tmp/tmp02sruvlb/runs')
    said = {}
    for c in cells(page):
        shown = [o.get('data', {}) for o in c.get('outputs', [])]
        text = ''.join(''.join(o.get('text', '')) for o in c.get('outputs', []))
        text += ''.join(''.join(d.get(k, '')) for d in shown for k in d if k.startswith('text'))
        if m := found.search(text): said[c['id']] = m[0]
    assert not said

def test_code_on_a_page_fits_its_column():
    "A hundred columns: what is longer is wrapped, which a command or its comment need not be"
    long = [(p.stem, line) for p in ROOT.glob('nbs/*.ipynb') for c in cells(p)
        if c['cell_type'] == 'markdown' for _,_,_,body in _FENCE.findall(''.join(c['source']))
        for line in body.splitlines() if len(line) > 100]
    assert not long

def test_notebooks_open_clean():
    "What Jupyter saves of an opened notebook is what is committed, and no output is an error"
    import nbformat
    for p in ROOT.glob('nbs/*.ipynb'):
        nb = nbformat.read(p, 4)
        nbformat.validate(nb)
        assert nb.metadata.kernelspec.name == 'python3', p.name
        assert set(nb.metadata) == {'kernelspec'}, f'{p.name}: no state of a widget, no version'
        assert nbformat.writes(nb) + '\n' == p.read_text(), p.name
        assert not [c.id for c in nb.cells for o in c.get('outputs', [])
            if o.output_type == 'error' or 'application/vnd.jupyter.widget-view+json' in
            o.get('data', {})], p.name

WIDE,NARROW = 1300, 420
PAGE = '''<!doctype html><meta name="viewport" content="width=device-width"><style>{css}</style>
<style>* {{ box-sizing: border-box }} body {{ margin: 0; font: 17px/1.5 sans-serif }} \
pre {{ font-family: monospace; margin: 0 }} pre > code.sourceCode {{ white-space: pre }}
div.sourceCode {{ border: 1px solid; margin: 1em 0 }} \
header {{ position: fixed; top: 0; height: 64px; width: 100%; background: silver }}
#columns {{ display: grid; padding: 64px 1rem 2000px; column-gap: 1rem; \
grid-template-columns: 220px minmax(500px, 1fr) 200px }}
@media (max-width: 767px) {{ #columns {{ grid-template-columns: minmax(0, 1fr) }} \
nav, aside {{ display: none }} }}</style>
<header>navigation</header><div id="columns"><nav>sidebar</nav><main>\
<div style="height: 1500px"></div><h2 id="heading">A heading</h2>
<div class="sourceCode"><pre class="sourceCode"><code class="sourceCode">{code}</code></pre></div>\
<div class="cell-output"><pre><code>{code}</code></pre></div>
<table><tr>{wide}</tr></table>
<p><math display="block"><mrow>{formula}</mrow></math></p></main><aside>contents</aside></div>'''

@pytest.fixture(scope='module')
def laid_out(browser, tmp_path_factory):
    """A page in Quarto's columns, with the site's own rules; a function that opens it in a window
    of some width and measures it"""
    page = tmp_path_factory.mktemp('page')/'page.html'
    page.write_text(PAGE.format(css=(ROOT/'nbs/styles.css').read_text(),
        code='\n'.join(['x'*100]*3), wide='<td>a_name_without_spaces</td>'*12,
        formula='<mi>a</mi><mo>+</mo>'*60))
    def at(width):
        browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride',
            dict(width=width, height=900, deviceScaleFactor=1, mobile=False))
        browser.get(f'{page.as_uri()}#heading')
        return browser.execute_script('''const all = s => [...document.querySelectorAll(s)]
            const pres = all('pre').map(o => ({wide: o.scrollWidth > o.clientWidth, '''
                '''size: parseFloat(getComputedStyle(o).fontSize),
                lines: Math.round(o.firstChild.getClientRects().length ? '''
                '''o.clientHeight/parseFloat(getComputedStyle(o).lineHeight) : 0)}))
            const table = document.querySelector('table')
            return {pres, page: document.documentElement.scrollWidth > innerWidth, '''
                '''table: table.scrollWidth > table.clientWidth,
                heading: document.querySelector('h2').getBoundingClientRect().top}''')
    yield at
    browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})

def test_a_hundred_columns_fit_a_window(laid_out):
    seen = laid_out(WIDE)
    assert [(o['wide'], o['lines']) for o in seen['pres']] == [(False, 4)]*2, (
        'three lines and the padding: none is wrapped, none scrolls')
    assert min(o['size'] for o in seen['pres']) >= 12 and not seen['page'], seen

def test_a_phone_wraps_code_and_scrolls_tables(laid_out):
    seen = laid_out(NARROW)
    source,output = seen['pres']
    assert not source['wide'] and source['lines'] > 6 and source['size'] >= 11, 'code is wrapped'
    assert output['wide'] and output['lines'] == 4, (
        'what a cell printed keeps its lines and scrolls by itself')
    assert seen['table'] and not seen['page'], 'the table scrolls, the page does not'

def test_a_heading_is_seen_after_a_jump(laid_out): assert 64 <= laid_out(WIDE)['heading'] < 120

SITE = """<!doctype html><meta name="viewport" content="width=device-width">\
<link rel="stylesheet" href="styles.css"><style>main {{ padding: 8px }}
.navbar-nav {{ display: flex }} p, li {{ font-size: 16px }}</style><body class="{theme}">
<nav class="navbar"><span class="navbar-title">autoresearch</span><ul class="navbar-nav">\
<li><a class="nav-link active" aria-current="page" href="index.html">Start</a></li>\
<li><a class="nav-link" href="page.html">Tour</a></li></ul></nav>
<div id="quarto-sidebar"><a class="sidebar-link">a page</a><a class="sidebar-link active">\
<span class="menu-text">this page</span></a></div><div id="TOC"><a>a heading</a></div>
<main><h2>A heading</h2><p>A <a href="page.html">link</a>, <code>code</code> and a \
<a href="page.html"><code>link in code</code></a>.</p>
<table><thead><tr><th>what</th><th>how many</th></tr></thead><tbody><tr><td>one</td><td>1.5</td>\
</tr><tr><td>two</td><td>-20</td></tr></tbody></table>
{diff}<h3><code>a command</code></h3><blockquote><p><code>said</code></p></blockquote>
<div class="ar-page">a card</div><details class="code-fold"><summary>more</summary></details>
<img class="on-light" src="x.png" width="9000" height="90">\
<img class="on-dark" src="x.png" width="9000" height="90">{slider}</main>\
<script src="site.js"></script>"""
PAIRS = ['p', 'main p > a', 'p > code', 'a > code', 'h3 > code', 'blockquote code', '.ar-at',
    '.ar-add', '.ar-del', '.ar-same', 'main summary', '.navbar .nav-link', '.navbar-title',
    '.sidebar-link', '.sidebar-link.active .menu-text', '#TOC a', 'summary', '.drag-says', 'th',
    'td', '.drag output', '.drag label code']
COLORS_OF = """const parts = c => c.match(/[\\d.]+/g).map(Number)
const on = (ground, c, share=1) => { const [r, g, b, a=1] = parts(c)
  return [r, g, b].map((v, i) => v*a*share + ground[i]*(1 - a*share)) }
const grounds = o => o ? [...grounds(o.parentElement), getComputedStyle(o).backgroundColor] : []
const opacity = o => o ? opacity(o.parentElement)*getComputedStyle(o).opacity : 1
return [...document.querySelectorAll(arguments[0])].map(o => {
  const ground = grounds(o).reduce((g, c) => on(g, c), [255, 255, 255])
  return [on(ground, getComputedStyle(o).color, opacity(o)), ground].map(c =>
    `rgb(${c.map(Math.round)})`) })
"""

def diff():
    "Two notebooks as the report and the dashboard show what differs"
    from autoresearch.cells import diff_html
    was,now = ({'cells': [dict(cell_type='code', id='hparams', metadata={}, outputs=[],
        execution_count=None, source=f'DEPTH = {n}\nWIDTH = 4\n')], 'metadata': {}, 'nbformat': 4,
        'nbformat_minor': 5} for n in (8, 9))
    return diff_html(was, now)

def slider():
    x = [i/10 for i in range(11)]
    frames = {str(k): ({'one': [v**k for v in x], 'two': [v/k for v in x]}, f'To the power of {k}.')
        for k in (1, 2, 3)}
    return Slider('POWER', x, frames, '2', 'x', 'y', (0, 1))

@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "A page as Quarto marks it up, with the site's own style and script; addresses by theme"
    folder = tmp_path_factory.mktemp('site')
    for name in ('styles.css', 'site.js'): shutil.copy(ROOT/'nbs'/name, folder)
    shutil.copy(plotly_js(), folder)
    (folder/'x.png').write_bytes(png())
    for theme,name in (('quarto-light', 'page.html'), ('quarto-dark', 'dark.html')):
        (folder/name).write_text(SITE.format(theme=theme, slider=slider()._repr_html_(), diff=diff()))
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    at = f'http://127.0.0.1:{server.server_port}/'
    yield {name: at + name for name in ('page.html', 'dark.html')}
    server.shutdown()

def wait(browser, seconds):
    from selenium.webdriver.support.ui import WebDriverWait
    return WebDriverWait(browser, seconds)

def drawn(browser):
    "The curves that plotly shows, once it does"
    wait(browser, 60).until(lambda b: b.execute_script(
        "return document.querySelectorAll('.drag-picture .scatterlayer .trace').length") == 2)
    return browser.execute_script("return [...document.querySelectorAll('.drag-picture "
        ".scatterlayer .js-line')].map(o => o.getAttribute('d'))")

def test_a_constant_is_dragged(browser, site):
    "With a mouse's button held, a finger, and arrow keys; with words for who sees no picture"
    from selenium.webdriver import ActionChains, Keys
    browser.get(site['page.html'])
    first,said = drawn(browser), lambda: browser.execute_script("""const f = s => \
        document.querySelector('.drag ' + s)
        return [f('.drag-says').textContent, f('.drag-picture').getAttribute('aria-label'),
            f('output').value, f('input').getAttribute('aria-valuetext')]""")
    assert said() == ['To the power of 2.', 'To the power of 2.', '2', '2']
    range_ = browser.find_element('css selector', '.drag input')
    range_.send_keys(Keys.ARROW_RIGHT)
    assert said()[0] == 'To the power of 3.' and said()[2:] == ['3', '3']
    assert drawn(browser) != first
    width = range_.size['width']
    ActionChains(browser).move_to_element_with_offset(range_, width//2 - 8, 0).click_and_hold(
        ).move_by_offset(16 - width, 0).release().perform()
    assert said()[0] == 'To the power of 1.'
    at = range_.rect
    browser.execute_cdp_cmd('Emulation.setTouchEmulationEnabled', dict(enabled=True))
    top = browser.execute_script('return document.querySelector(".drag input")'
        '.getBoundingClientRect().top')
    for kind,share in (('touchStart', .02), ('touchMove', .3), ('touchMove', .5), ('touchEnd', 0)):
        points = [dict(x=at['x'] + share*width, y=top + at['height']/2)]
        browser.execute_cdp_cmd('Input.dispatchTouchEvent',
            dict(type=kind, touchPoints=[] if kind == 'touchEnd' else points))
    browser.execute_cdp_cmd('Emulation.setTouchEmulationEnabled', dict(enabled=False))
    assert said()[0] == 'To the power of 2.' and at['height'] >= 44
    table = browser.execute_script("return document.querySelector('.drag table').textContent")
    assert 'POWER' not in table and all(o in table for o in ('one', 'two', '0.216'))
    assert not browser.find_elements('css selector', '.modebar-btn'), 'no button uploads anything'
    asked = browser.execute_script(
        "return performance.getEntriesByType('resource').map(o => o.name)")
    own = site['page.html'].removesuffix('page.html')
    assert len(asked) >= 4 and all(o.startswith(own) for o in asked), asked

def test_a_finger_scrolls_past_a_picture(browser, site):
    "Neither the picture nor its slider holds a page that is swiped, and no value moves by it"
    say = browser.execute_cdp_cmd
    say('Emulation.setDeviceMetricsOverride',
        dict(width=390, height=844, deviceScaleFactor=1, mobile=True))
    say('Emulation.setTouchEmulationEnabled', dict(enabled=True))
    try:
        browser.get(site['page.html'])
        browser.execute_script("document.body.style.padding = '900px 0'")
        drawn(browser)
        for part in ('.drag-picture', '.drag input'):
            at = browser.execute_script(f"""const o = document.querySelector('{part}')
                o.scrollIntoView({{block: 'center'}})
                const r = o.getBoundingClientRect()
                return [r.x + r.width/2, r.y + r.height/2, scrollY]""")
            for kind,up in [('touchStart', 0), *(('touchMove', k) for k in range(10, 130, 10))]:
                say('Input.dispatchTouchEvent',
                    dict(type=kind, touchPoints=[dict(x=at[0], y=at[1]-up)]))
            say('Input.dispatchTouchEvent', dict(type='touchEnd', touchPoints=[]))
            wait(browser, 20).until(
                lambda b: b.execute_script('return scrollY') > at[2] + 50)
            assert browser.find_element('css selector', '.drag output').text == '2'
    finally:
        say('Emulation.setTouchEmulationEnabled', dict(enabled=False))
        say('Emulation.clearDeviceMetricsOverride', {})

def test_without_plotly_words_and_a_drawing_are_left(browser, site, tmp_path):
    browser.get('about:blank')
    for name in ('styles.css', 'site.js'): shutil.copy(ROOT/'nbs'/name, tmp_path)
    (tmp_path/'page.html').write_text(SITE.format(theme='', slider=slider()._repr_html_(), diff=''))
    browser.get((tmp_path/'page.html').as_uri())
    browser.find_element('css selector', '.drag input').send_keys('\ue014')
    assert browser.find_element('css selector', '.drag-says').text == 'To the power of 3.'
    drawing = browser.find_element('css selector', '.drag-picture img')
    assert drawing.get_attribute('alt') == 'To the power of 2.'
    svg = base64.b64decode(drawing.get_attribute('src').partition('base64,')[2]).decode()
    colors = re.findall('<polyline .*?stroke="(#[0-9A-F]+)"', svg)
    assert browser.execute_script('return arguments[0].naturalWidth', drawing) == 600
    assert len(colors) == 2 and all(contrast(c, ground) > 3 for c in colors
        for ground in ('#ffffff', '#111111', DARK_GROUND))

def test_the_page_that_is_open_is_marked(browser, site):
    browser.get(site['page.html'])
    assert [(o.text, o.get_attribute('class'), o.get_attribute('aria-current'))
        for o in browser.find_elements('css selector', '.nav-link')] == [
            ('Start', 'nav-link', None), ('Tour', 'nav-link active', 'page')]

def test_numbers_stand_under_each_other(browser, site):
    browser.get(site['page.html'])
    sides = browser.execute_script("return [...document.querySelectorAll('main > table tr > *')]"
        ".map(o => getComputedStyle(o).textAlign)")
    assert [o == 'right' for o in sides] == [False, True]*3, sides

@pytest.mark.parametrize('name', ['page.html', 'dark.html'])
def test_every_pair_of_colours_can_be_read(browser, site, name):
    browser.get(site[name])
    drawn(browser)
    as_hex = lambda c: '#%02x%02x%02x' % tuple(map(int, re.findall(r'\d+', c)[:3]))
    seen = {s: [contrast(*map(as_hex, pair)) for pair in browser.execute_script(COLORS_OF, s)]
        for s in PAIRS}
    assert all(seen.values()) and min(min(v) for v in seen.values()) >= 4.5, seen
    lines = [as_hex(c) for c in browser.execute_script("return [...document.querySelectorAll("
        "'.drag-picture .scatterlayer .js-line')].map(o => getComputedStyle(o).stroke)")]
    ground = '#ffffff' if name == 'page.html' else DARK_GROUND
    assert len(lines) == 2 and min(contrast(c, ground) for c in lines) >= 4.5, lines
    shown = {o.get_attribute('class') for o in browser.find_elements('css selector', 'img')
        if o.is_displayed()}
    assert shown == {'on-light' if name == 'page.html' else 'on-dark'}
    card = browser.find_element('css selector', '.ar-page').get_attribute('class')
    assert ('ar-dark' in card) == (name == 'dark.html')

@pytest.mark.parametrize('width', [360, NARROW, 768, WIDE, 2000])
def test_nothing_sticks_out(browser, site, width):
    browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride',
        dict(width=width, height=900, deviceScaleFactor=1, mobile=False))
    try:
        browser.get(site['page.html'])
        drawn(browser)
        out = browser.execute_script("""return [...document.querySelectorAll(`main img, main p,
            .drag, .drag input, .drag output, .drag-picture, .drag-picture svg`)].filter(o =>
            o.getBoundingClientRect().right > innerWidth + 1).map(o => o.outerHTML.slice(0, 80))""")
        assert not out and not browser.execute_script(
            'return document.documentElement.scrollWidth > innerWidth')
    finally: browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
