"""The report over real sessions of the example: every number against the data, hostile text,
sessions with pieces missing."""
import base64, html, io, json, math, os, random, re, shutil, sys, time
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
# once here, not in the fork of each report
import matplotlib.pyplot, nbconvert, nbformat, numpy as np, pytest
from types import SimpleNamespace
from PIL import Image
from execnb.shell import CaptureShell
from fastcore.nbio import mk_cell, new_nb
from autoresearch import report as reports
from autoresearch.cells import cells_diff, changed_lines, diff_html
from autoresearch.contract import install_line
from autoresearch.ledger import Row, one_line, parse_row
from autoresearch.repo import Refused
from autoresearch.report import (Experiment, Said, against, budgets, code_span, collect, cut,
    energy, fenced, find_session, further, happened, last_search, looked, many, paced, read_summary,
    report_cells, score_once, speed, table, touched, unguarded, utc, write_report)
from autoresearch.run import pace, project, read_json, read_notes
from lab import (BIN, TAG, ROOT, ar, commit, edit, example, forked_script, git, run, setup, sh,
    until)
from lab import rows_as_tried as rows # a run beside other work is measured again, and says so

HOSTILE = ('degree | nine \\| <script>alert(1)</script> <img src=x onerror=y> '
    '@torvalds #1 `x``y` &lt;')
SUMMARY = ('I raised the rates by 77777.\n\n# A heading\n</pre><script>alert(2)</script>\n'
    '```\n````\n"""\'\\ {{ nb }} {% raw %} | a | b |\n')

def at_once(s, summary=''):
    """`execute_report` without a kernel: the same cells in an IPython of this process, which spares
    a report its imports. `test_at_once_is_as_in_a_kernel` holds the two together"""
    nb,shell = report_cells(), CaptureShell()
    for c in nb.cells:
        if c.cell_type != 'code': continue
        given = dict(TAG=s.tag, PROFILE=s.p.name, ROOT=str(s.p.root), SUMMARY=summary)
        if 'parameters' in c.metadata.get('tags', []):
            c.source += ''.join(f'\n{k} = {v!r}' for k,v in given.items())
        c.outputs = shell.run(c.source)
        if shell.exc: raise Refused(f'the report failed: {shell.exc}')
    nb.metadata['papermill'] = dict(parameters=given)
    return nbformat.reads(json.dumps(nb), as_version=4)

def report(root, *args, ok=True, how=at_once):
    "ar-report in a fork, its cells run by `how`"
    def first(): reports.execute_report = how
    r = forked_script(root, str(BIN/'ar-report'), *args, first=first)
    assert not ok or r.returncode == 0, (args, r.stdout, r.stderr)
    return r

def texts(root, *args, tag=TAG, how=at_once):
    "Markdown and HTML of a report just made"
    report(root, *args, how=how)
    return [(root/'runs'/tag/'report'/n).read_text() for n in ('report.md', 'report.html')]

@pytest.fixture(scope='module')
def first(tmp_path_factory):
    "A session of twelve experiments, whose steps and not the machine's speed end them"
    root = example(tmp_path_factory.mktemp('report')/'repo', time_budget=8)
    setup(root)
    run(root, 'baseline')
    for old,new,what in [('DEGREE = 1 ', 'DEGREE = 3 ', 'a cubic'),
            ('RATE = 0.5 ', 'RATE = 0.9 ', 'RATE 0.5 -> 0.9'),
            ('RATE = 0.9 ', 'RATE = 5.0 ', 'RATE far too high'),
            ('DEGREE = 3 ', 'DEGREE = 9 ', HOSTILE)]:
        edit(root, old, new)
        run(root, what)
    ar(root, 'ar-drop')
    for old,new,what in [(r'DEGREE = \d ', 'DEGREE = 5 ', 'a quintic'),
            (r'\d\*rng', '2*rng', 'a shorter interval'),
            (r'DEGREE = \d ', 'DEGREE = 4 ', 'degree 4'),
            (r'range\(40\)', 'range(80)', 'twice the points'),
            (r'STEPS = \d+', 'STEPS = 500', 'longer'),
            (r'DEGREE = \d ', 'DEGREE = 2 ', 'a parabola'),
            (r'STEPS = \d+', 'STEPS = 600', 'longer still')]:
        # whatever of the earlier ones was kept
        edit(root, re.search(old, (root/'canvas.ipynb').read_text())[0], new)
        run(root, what)
    assert len(rows(root)) == 12
    (root/'summary.md').write_text(SUMMARY)
    return root

@pytest.fixture(scope='module')
def made(first):
    "By papermill and a kernel"
    return texts(first, '--summary', 'summary.md', how=reports.execute_report)

@pytest.fixture
def copy(first, tmp_path): return Path(shutil.copytree(first, tmp_path/'repo', symlinks=True))

# reading what was written

def md_tables(md):
    "Tables as lists of rows of cells; pipes with a backslash do not count"
    res,before = [], ''
    for l in re.sub(r'^(`{3,})\w*\n.*?^\1$', '', md, flags=re.M|re.S).splitlines():
        if l.startswith('|'):
            if not before.startswith('|'): res.append([])
            res[-1].append([c.strip() for c in re.split(r'(?<!\\)\|', l)[1:-1]])
        before = l
    return [[t[0], *t[2:]] for t in res]

def md_table(md, *columns):
    return next(t for t in md_tables(md)
        if [c.replace('\\', '') for c in t[0][:len(columns)]] == list(columns))

class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags,self.attrs,self.seen = [], [], ''
        self.feed(text)
    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attrs += [(tag, k, v) for k,v in attrs]
    def handle_data(self, data): self.seen += data

def records(root):
    return [c for d in sorted((root/'runs'/TAG).glob('[0-9]*-*'))
        if (c := read_json(d/'record.json'))]
def facts(md): return {r[0]: r[1] for r in md_table(md, 'session')}
def put(root, **settings):
    "Set keys of settings.ini and commit it"
    f = root/'settings.ini'
    for k,v in settings.items():
        f.write_text(re.sub(rf'^{k} = .*$', f'{k} = {v}', f.read_text(), flags=re.M))
    commit(root, 'other settings')

def ran(root, *rows):
    "Rows with a run for each, as it would have left them"
    with open(root/'results.tsv', 'a') as f: f.writelines(r.line() + '\n' for r in rows)
    first = 1 + max(int(d.name.split('-')[0]) for d in (root/'runs'/TAG).glob('[0-9]*-*'))
    for i,r in enumerate(rows, first):
        (d := root/'runs'/TAG/f'{i:03}-{r.commit}').mkdir()
        (d/'experiment.json').write_text(
            json.dumps(dict(dir=d.name, commit=r.commit, status=r.status, value=r.value)))

def change_notes(root, commit, **more):
    "Other notes for the run of a commit"
    f = next((root/'runs'/TAG).glob(f'[0-9]*-{commit}'))/'experiment.json'
    f.write_text(json.dumps({**read_json(f), **more}))

def notes(root):
    return [read_json(d/'experiment.json') for d in sorted((root/'runs'/TAG).glob('[0-9]*-*'))]

# the page

def test_at_once_is_as_in_a_kernel(copy, made):
    "To the byte, but for the minute that it was made in"
    when = r'\d+-\d+-\d+ \d+:\d+ UTC'
    was = (copy/'runs'/TAG/'report'/'1-staircase.png').read_bytes()
    for real,text in zip(made, texts(copy, '--summary', 'summary.md')):
        assert re.sub(when, '', real).replace(str(copy), '') == re.sub(when, '', text)
    assert (copy/'runs'/TAG/'report'/'1-staircase.png').read_bytes() == was

def test_page_needs_nothing_else(made):
    page = Page(made[1])
    assert not {'script', 'link', 'iframe', 'object', 'embed', 'form', 'base', 'svg', 'a'} & set(
        page.tags)
    assert not [o for o in page.attrs if o[1].startswith('on') or o[1] in ('href', 'style')]
    pictures = [v for t,k,v in page.attrs if k in ('src', 'srcset')]
    # two, each for light and dark, and each of those for a window and a telephone
    assert len(pictures) == 8 and page.tags.count('picture') == page.tags.count('img') == 4
    for v in pictures:
        head,data = v.split(',')
        assert head == 'data:image/png;base64'
        drawn = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        assert drawn.mode == 'RGBA' and drawn.getpixel((0, 0))[3] == 0, 'it has a ground of its own'
    assert (all(v for t,k,v in page.attrs if k == 'alt')
        and sum(k == 'alt' for _,k,_ in page.attrs) == 4)
    assert [sum(t == 'picture' and v == f'on-{k}' for t,_,v in page.attrs)
        for k in ('light', 'dark')] == [2, 2] and '@media(prefers-color-scheme:dark)' in made[1]
    assert "default-src 'none'" in made[1] and 'url(' not in made[1] and '@import' not in made[1]
    assert len(made[1]) < 5e6

def test_pictures_lie_beside_the_markdown(first, made):
    """By links that GitHub shows: to files beside it, in the order of their names, one for each
    theme; each on its own ground, for what shows the page may have another theme"""
    names = re.findall(r'(?:src|srcset)="([^"]+)"', made[0])
    both = '1-staircase', '3-seconds'
    assert names == [f'{n}{dark}.png' for n in both for dark in ('-dark', '')]
    assert 'data:' not in made[0] and 'http' not in made[0]
    for n in names:
        drawn = Image.open(first/'runs'/TAG/'report'/n)
        at = drawn.getpixel((0, 0))
        assert drawn.mode == 'RGB' and (max(at) < 40 if 'dark' in n else at == (255,)*3), (n, at)

def test_text_of_others_is_shown_and_does_nothing(first, made):
    md,page = made[0], Page(made[1])
    assert HOSTILE in page.seen and 'alert(2)' in page.seen and '</pre><script>' in page.seen
    bare = re.sub(r'(`+).*?(?<!`)\1(?!`)', '',
        re.sub(r'^(`{3,})\w*\n.*?^\1$', '', md, flags=re.M|re.S))
    bare = re.sub(r'^<picture>(<source [^<>]*>)?<img [^<>]*></picture>$', '', bare, flags=re.M)
    assert (not re.search(r'<(?!/?(details|summary|code)>)', bare) and '@' not in bare
        and '#1' not in bare and '77777' not in bare)
    assert all(len({len(r) for r in t}) == 1 for t in md_tables(md)), 'a table is broken'
    assert "The agent's own words" in md.split('77777')[0] and 'agent' in made[1]
    assert re.search(r'^(`{5,})text\nI raised.*?^\1$', md, re.M|re.S), (
        'a fence longer than any in the text')

def test_said_characters():
    assert (code_span('a`b') == '``a`b``' and code_span('`') == '`` ` ``'
        and code_span('a|b') == '`a\\|b`')
    assert '\u202e' not in (fenced('a\u202eb').html + table(['x'], [[Said('a\u202eb\u200b')]]).html
        + table(['x'], [[Said('\u202e')]]).markdown)
    assert (cut('a\n'*10, 8).splitlines() == ['a']*4 + ['… 6 more lines']
        and len(cut('x'*1000, 9999)) == 300)

# the numbers

def test_keeps(first, made):
    "The table of keeps, reckoned here from results.tsv, experiment.json and git alone"
    want,best,by = [], None, {n['commit'][:7]: n for n in notes(first)}
    for i,(commit,value,memory,status,text) in enumerate(rows(first), 1):
        if status != 'keep': continue
        # one line of code is one of JSON
        stat = git(first, 'diff', '--numstat', by[commit]['parent'], by[commit]['commit'],
            '--', 'canvas.ipynb').split()[:2] or ['0', '0']
        gain = best-Decimal(value) if best is not None else Decimal('0.000000')
        best = Decimal(value)
        want.append([str(i), commit, value, str(gain), '+'+stat[0], '−'+stat[1],
            f"{by[commit]['seconds']:.1f}", memory, f'`{text}`'])
    # a busy machine adds a column of doubts
    got = [[*r[:8], r[-1]] for r in md_table(made[0], 'n', 'commit', 'rmse')]
    assert got[1:-1] == want and len(want) >= 4
    first_value,last_value = (Decimal(want[i][2]) for i in (0, -1))
    assert got[-1][3:6] == [str(first_value-last_value),
        *(s+str(sum(int(w[c][1:]) for w in want)) for s,c in (('+', 4), ('−', 5)))]
    assert md_title(made[0]) == (
        f'autoresearch/{TAG}: rmse {first_value} → {last_value} in {len(rows(first))} experiments')

def md_title(md): return md.splitlines()[0].removeprefix('# ')

def test_in_vain(first, made):
    got = {r[0].strip('`'): r[1:] for r in md_table(made[0], 'touched', 'tries')[1:]}
    lost = [r for r in rows(first) if r[3] != 'keep']
    assert sum(int(r[0]) for r in got.values()) == len(lost)
    assert [sum(int(r[c]) for r in got.values()) for c in (1, 2)] == [
        sum(r[3] == k for r in lost) for k in ('discard', 'crash')]
    assert (set(got) <= {'DEGREE', 'RATE', 'STEPS', 'DEGREE, RATE', 'loop'}
        and got['RATE'][1:] == ['0', '1', 'crash'])
    best = min(Decimal(r[1]) for r in rows(first)[:5] if r[3] == 'keep')
    quintic = next(r for r in rows(first) if r[4] == 'a quintic')
    listed = [r for t in md_tables(made[0])
        if t[0][:3] == ['n', 'commit', 'missed by'] for r in t[1:]]
    assert ([quintic[0], str(Decimal(quintic[1])-best)] in [r[1:3] for r in listed]
        and len(listed) == len(lost))

def known_numbers(root):
    "Every number that ledger, runs, settings and clock give, reckoned without the report's code"
    led,runs = rows(root), notes(root)
    kept = [Decimal(r[1]) for r in led if r[3] == 'keep']
    res = ({str(o) for o in range(len(led)+1)} | {r[1] for r in led} | {r[2] for r in led}
        | {str(abs(a-b)) for a in kept for b in [Decimal(r[1]) for r in led]})
    good = [n for n in runs if n['class'] == 'ok']
    span,train,ran = (runs[-1]['time']-runs[0]['started'],
        sum(n['block']['training_seconds'] for n in good), sum(n['seconds'] for n in good))
    failed = sum(n['seconds'] for n in runs)-ran
    spent = [train, ran-train, failed, span-ran-failed]
    starts = sorted([b['started']-a['started'] for a,b in zip(runs, runs[1:])]
        + [runs[-1]['time']-runs[-1]['started']])
    middle = (starts[(len(starts)-1)//2] + starts[len(starts)//2])/2
    # on a busy machine
    waited = sum(n['trained'] if n.get('counts') == 'cpu' else n['block']['training_seconds']
        for n in good)
    figures = [*spent, *(n['seconds'] for n in runs), middle, (ran-waited)/len(good),
        *(3600*n/span for n in (len(led), len(kept)))]
    res |= ({f'{v:.1f}' for v in figures} | {f'{100*v/span:.1f}' for v in spent}
        | {f'{100*(kept[0]-min(kept))/kept[0]:.2f}'})
    rate = lambda n: (n['block']['num_steps'],
        n.get('rate') or n['block']['num_steps']/n['block']['training_seconds'])
    best = rate(min(good, key=lambda n: (n['value'], n['time'])))
    res |= ({f'{100*abs(a/b-1):.1f}' for n in good for a,b in zip(rate(n), best)}
        | {f'{rate(n)[1]/u:.3g}' for n in good for u in (1e6, 1e3, 1)}
        | {str(rate(n)[0]) for n in good})
    made = (root/'runs'/TAG/'report/report.md').stat().st_mtime
    clock = [*(t for n in runs for t in (n['started'], n['time'])), made, made-60]
    res |= {p for t in clock
        for p in re.findall(r'\d+', time.strftime('%Y-%m-%d %H:%M', time.gmtime(t)))}
    return res | {f'{int(span+.5)//60%60:02d}', f'{int(span+.5)%60:02d}', '0',
        *(f"{c['clock']['budget']:g}" for c in records(root)), *(str(n['seed']) for n in runs),
        *re.findall(r'\d+', TAG)}

def test_every_number_is_in_the_data(first, made):
    # the summary and the diff are text
    md = re.sub(r'^(`{3,})\w*\n.*?^\1$', '', made[0], flags=re.M|re.S)
    md = re.sub(r'(`+).*?(?<!`)\1(?!`)', '', md) # so are descriptions
    for sha in {c for n in notes(first) for c in (n['commit'], n['parent'])}:
        md = md.replace(sha, '').replace(sha[:7], '')
    numbers = set(re.findall(r'\d+(?:\.\d+)?', md))
    assert len(numbers) > 30 and numbers <= known_numbers(first), numbers - known_numbers(first)

def test_code_spans_are_in_the_data(first, made):
    told = ({one_line(r[4]) for r in rows(first)} | {n['reason'] for n in notes(first)}
        | {str(v) for n in notes(first) for o in (n.get('host') or {}).values()
            for v in (o.values() if isinstance(o, dict) else [o])})
    spans = [c for t in md_tables(made[0]) for r in t for c in r if c.startswith('`')]
    for c in spans:
        text = re.sub(r'^`+ ?| ?`+$', '', c).replace('\\|', '|').replace('\\ ', '\\')
        assert any(t.startswith(text.rstrip('…')) for t in told) or re.fullmatch(
            r'[0-9a-f]{16}|(DEGREE|RATE|STEPS|loop)(, \w+)*|more than 5 % apart.*|'
            r'disturbed: .*|overran by .*', text), c

def test_another_ledger_another_report(copy, made):
    "Change one kept value: it, its gains, the title and the nearest misses follow"
    f = copy/'results.tsv'
    old = next(r for r in rows(copy) if r[4] == 'a cubic')
    f.write_text(f.read_text().replace(old[1], '0.123456'))
    assert [e.ran for e in collect(find_session(TAG, 'polynomial', str(copy))).experiments
        ].count(False) == 1, 'no run came to that'
    was = next(n for n in notes(copy) if n['commit'].startswith(old[0]))
    change_notes(copy, old[0], value=.123456, runs=[{**r, 'value': .123456} for r in was['runs']])
    md,page = texts(copy)
    assert old[1] in made[0] and old[1] not in md + page
    keeps = {r[1]: r for r in md_table(md, 'n', 'commit', 'rmse', 'gain')[1:]}
    base,after = rows(copy)[0], rows(copy)[2]
    assert keeps[old[0]][2:4] == ['0.123456', str(Decimal(base[1])-Decimal('0.123456'))]
    assert keeps[after[0]][3] == str(Decimal('0.123456')-Decimal(after[1]))

def test_commands_give_the_best_value_again(copy, made):
    commands = re.search(r'^```sh\n(.*?)^```$', made[0], re.M|re.S)[1]
    (copy/'summary.md').unlink()
    best = min(Decimal(r[1]) for r in rows(copy) if r[3] == 'keep')
    for c in commands.strip().splitlines():
        name,*args = [w.strip('"') for w in c.split()]
        sh(copy, *([name] if name == 'git' else [Path(sys.executable).parent/name]), *args)
    assert [Decimal(r[1]) for r in rows(copy)] == [best]

# sessions with pieces missing

def test_past_and_empty_sessions(copy, made):
    (copy/'summary.md').unlink()
    ar(copy, 'ar-setup', 'nov2')
    md,page = texts(copy, tag='nov2')
    assert ('0: 0 kept, 0 discarded, 0 crashed' in md and 'no value yet in 0 experiments' in md
        and 'Nothing was kept' in md)
    base = git(copy, 'rev-parse', 'HEAD')
    left = re.sub(r'^(`{3,})\w*\n.*?^\1$|`[^`]*`|^<picture>.*$|\d+-\d+-\d+ \d+:\d+ UTC', '', md,
        flags=re.M|re.S).replace(base, '')
    # 2 is of nov2, 5 the percent that are said
    assert set(re.findall(r'\d+(?:\.\d+)?', left)) <= {'0', '0.000000', '8', '2', '5'}, (
        'a number that no row holds')
    again = texts(copy, f'autoresearch/{TAG}')
    assert (md_tables(again[0])[1:] == md_tables(made[0])[1:]
        and md_title(again[0]) == md_title(made[0]))
    (copy/'runs'/TAG/'results.tsv').unlink()
    (copy/'results.tsv').write_text(
        'commit\trmse\tmemory_gb\tstatus\tdescription\n'
        'abcdef0\t0.5\t0.0\tkeep\tof another session\n')
    held = [collect(find_session(t, 'polynomial', str(copy))).experiments for t in (TAG, 'nov2')]
    assert held[0] == [] and [e.row.description for e in held[1]] == ['of another session']

def test_pieces_missing(copy):
    dirs,before = sorted((copy/'runs'/TAG).glob('[0-9]*-*')), rows(copy)
    for d in dirs[1:4]: shutil.rmtree(d)
    (dirs[4]/'experiment.json').write_text('{"half')
    (dirs[5]/'experiment.json').write_text('{"half')
    ran(copy, Row('abcdef0', .03, 0., 'keep', 'in no git'),
        Row('abcdef1', .03, 0., 'discard', 'in none either'))
    with open(copy/'results.tsv', 'a') as f: f.write('torn | <b>row</b>\n')
    md,page = texts(copy)
    n = len(rows(copy))
    assert (md_table(md, 'line')[1][0] == str(n+1) and 'accepted: 5, separated by tabs' in md
        and f'in {n-1} experiments' in md_title(md))
    keep = {r[1]: r for r in md_table(md, 'n', 'commit', 'rmse', 'gain')[1:]}
    assert keep['abcdef0'][4:7] == ['unknown']*3 and keep[before[0][0]][4] == '+0'
    assert [r[:2] for r in next(t for t in md_tables(md) if t[0][-1] == 'what it says')[1:]] == [
        [f'row {i}', before[i-1][0]] for i in (2, 3, 4)]
    assert [r[0] for r in md_table(md, 'could not be read')[1:]] == [
        f'`{dirs[i].name}/experiment.json`' for i in (4, 5)]
    assert 'a commit whose canvas git no longer has' in md and 'Git no longer has' in md
    assert before[4][3] != 'crash' or 'its notes are gone' in md, (
        'the executed notebook vouches for it, and its reason is unknown')

def test_the_budget_is_the_sessions(copy):
    """Settings that changed since are no session's of before; several records are all told;
    without one the base commit's count"""
    (copy/'summary.md').unlink()
    git(copy, 'switch', '-q', 'main')
    put(copy, time_budget='14')
    ar(copy, 'ar-setup', 'nov2')
    put(copy, time_budget='15')
    assert facts(texts(copy, TAG)[0])['budget'] == '8 CPU seconds of training, profile polynomial'
    assert facts(texts(copy, 'nov2', tag='nov2')[0])['budget'] == (
        '14 CPU seconds of training, profile polynomial')
    put(copy, clock='wall')
    assert 'Training is in CPU seconds over threads' in texts(copy, TAG)[0]
    f = sorted((copy/'runs'/TAG).glob('*/record.json'))[0]
    ours = '8 CPU seconds of training'
    cases = [(dict(kind='seconds', budget=7.0), f'7 seconds of training or {ours}'),
        (dict(kind='steps', budget=60), f'{ours} or 60 steps'),
        (dict(kind='seconds', counts='cpu', budget=7.0), f'7 CPU seconds of training or {ours}'),
        (dict(kind='seconds', budget='<b>'), ours),
        ([1], ours)]
    for clock,says in cases:
        f.write_text(json.dumps({**read_json(f), 'clock': clock}))
        assert budgets(find_session(TAG, 'polynomial', str(copy))) == says
    for d in (copy/'runs'/TAG).glob('*/record.json'):
        d.write_text(json.dumps({**read_json(d), 'clock': dict(kind='seconds', budget=8)}))
    assert 'CPU seconds' not in texts(copy, TAG)[0]
    for d in (copy/'runs'/TAG).glob('*/record.json'): d.unlink()
    s = find_session(TAG, 'polynomial', str(copy))
    assert budgets(s) == ours
    s.state['base'] = 'f'*40
    assert budgets(s) == 'unknown'

def test_damaged_notes(copy):
    """Notes that are JSON and yet not what was written: their entries are unknown, the report is
    made"""
    (copy/'summary.md').unlink()
    dirs = sorted((copy/'runs'/TAG).glob('[0-9]*-*'))
    bad = [dict(commit=None), dict(commit=5), dict(seconds=None), dict(block=None),
        dict(block=dict(training_seconds='x')), dict(time='soon'), dict(started=True),
        dict(parent=7, status=[]), dict(reason={}, host=[1], seed='; rm -rf .'), {'class': 3}]
    for d,more in zip(dirs, bad):
        (d/'experiment.json').write_text(json.dumps({**read_json(d/'experiment.json'), **more}))
    n = read_json(dirs[10]/'experiment.json')
    (dirs[10]/'experiment.json').write_text(
        json.dumps({k: v for k,v in n.items() if k != 'commit'}))
    (dirs[11]/'experiment.json').write_text('[1, 2]')
    (copy/'runs'/TAG/'rewinds.json').write_text('{"rewinds": 3}')
    md,page = texts(copy)
    assert 'in 12 experiments' in md_title(md) and 'rm -rf' not in md + page and 'rewinds' not in md
    assert md_table(md, 'n', 'commit', 'rmse', 'gain')[1][6] == 'unknown', (
        'the first lost its commit, and so its seconds')

@pytest.mark.parametrize('key', ['class', 'status', 'commit', 'parent', 'reason', 'started',
    'time', 'seconds', 'block', 'host', 'seed', 'by', 'contract'])
@pytest.mark.parametrize('value', [None, 5, 'x', [1], {}, True, float('nan')], ids=str)
def test_notes_of_any_kind(tmp_path, key, value):
    "Whatever stands in one entry, pace and the report's sums can be reckoned"
    def believed(notes):
        (tmp_path/'experiment.json').write_text(json.dumps(notes))
        return read_notes(tmp_path/'experiment.json')
    whole = {'class': 'ok', 'status': 'keep', 'commit': 'c98bdca', 'started': 1., 'time': 3.,
        'seconds': 2., 'block': dict(training_seconds=1.), 'seed': 42}
    assert believed(whole) == whole
    n = believed({**whole, key: value})
    assert set(n) <= {*whole, key} and pace([n, whole], now=9.)['experiments'] == 1 + ('time' in n)
    assert (isinstance(n.get('commit', ''), str) and isinstance(n.get('host', {}), dict)
        and isinstance(n.get('reason', ''), str))

def test_a_best_that_git_lacks(copy):
    "Only what git lacks is named, no command stands on it, and a sum says that it is not all"
    (copy/'summary.md').unlink()
    ran(copy, Row('12345aa', .000001, 0., 'keep', 'in no git'))
    md,_ = texts(copy)
    assert ('Git no longer has 12345aa, so' in md and 'git switch' not in md
        and 'that of 12345aa, which git no longer has' in md)
    assert all(re.fullmatch(rf'at least [{sign}][1-9]\d*', c)
        for sign,c in zip('+−', md_table(md, 'n', 'commit', 'rmse', 'gain')[-1][4:6]))
    f = copy/'results.tsv'
    f.write_text(
        ''.join(l for l in f.read_text().splitlines(True) if l.startswith(('commit', '12345aa'))))
    md,_ = texts(copy)
    assert ('Git no longer has 12345aa, so' in md
        and md_table(md, 'n', 'commit', 'rmse', 'gain')[-1][4:6] == ['unknown']*2)
    assert 'in 1 experiment\n' in md

def test_a_discard_that_is_better(copy):
    (copy/'summary.md').unlink()
    lost = next(r for r in rows(copy) if r[3] == 'discard')
    f = copy/'results.tsv'
    f.write_text(f.read_text().replace(f'{lost[0]}\t{lost[1]}', f'{lost[0]}\t0.000001'))
    change_notes(copy, lost[0], value=.000001)
    md,page = texts(copy)
    assert [r[2] for t in md_tables(md) if t[0][:3] == ['n', 'commit', 'missed by']
        for r in t[1:] if r[1] == lost[0]] == ['better, yet discarded']
    assert ('better, yet discarded' in [r[4] for r in md_table(md, 'touched')]
        and not re.search(r'\| -\d', md))

def test_only_crashes(tmp_path):
    root = example(tmp_path/'repo')
    edit(root, 'DEGREE = 1 ', 'DEGREE = 9 ')
    git(root, '-c', 'user.name=t', '-c', 'user.email=t@example.org', 'commit', '-qam', 'nine')
    setup(root)
    run(root, 'baseline')
    md,page = texts(root)
    assert (md_title(md).endswith('nothing but crashes in 1 experiment')
        and '\n1 experiment in 0:' in md and 'ValueError: 10 coefficients' in md
        and 'There is no value yet' in md)
    assert 'Nothing was kept' in page and page.count('<picture') == 4

def test_while_an_experiment_runs(copy, made):
    wait = copy.parent/'awake' # what it waits for, so that it runs as long as the report takes
    edit(copy, 'import math, random, time',
        f'import math, os, random, time\\nwhile not os.path.exists({str(wait)!r}): time.sleep(.1)')
    (copy/'summary.md').unlink()
    run(copy, 'a nap', '--background', '--walls', 'none') # behind walls it would see no file
    t0 = time.time()
    md,_ = texts(copy)
    assert (', while an experiment runs' in md
        and md_title(md) == md_title(made[0]) and time.time()-t0 < 60)
    wait.touch()
    until(lambda: 'a nap' in (copy/'results.tsv').read_text())
    ar(copy, 'ar-wait')
    assert (rows(copy)[-1][3] in ('keep', 'discard')
        and not list((copy/'runs'/TAG/'report').glob('*.tmp')))

# what makes a value doubtful

def test_a_row_that_nobody_ran(copy, made):
    "It is shown, and moves neither title nor gains nor what was tried in vain"
    (copy/'summary.md').unlink()
    lost = next(r for r in rows(copy) if r[3] == 'discard')
    with open(copy/'results.tsv', 'a') as f:
        f.write(f'abcdef0\t0.000001\t0.0\tkeep\tby | hand\n' + '\t'.join(lost) + '\n')
    md,page = texts(copy)
    n = len(rows(copy))
    assert (md_title(md) == md_title(made[0]).replace(f'{n-2} experiments', f'{n} experiments')
        and ' crashed, 2 not run' in facts(md)['tried'])
    assert 'Nobody ran 2 rows of the ledger, and nothing here is decided by it' in md
    assert [r[:2] for r in next(t for t in md_tables(md) if t[0][-1] == 'what it says')[1:]] == [
        [f'row {n-1}', 'abcdef0'], [f'row {n}', lost[0]]]
    assert md_table(md, 'n', 'commit', 'rmse', 'gain') == md_table(
        made[0], 'n', 'commit', 'rmse', 'gain')
    for columns in (('touched', 'tries'), ('reason', 'crashes')):
        assert md_table(md, *columns) == md_table(made[0], *columns)
    with open(copy/'results.tsv', 'w') as f:
        f.write('commit\trmse\tmemory_gb\tstatus\tdescription\n'
            'abcdef0\t0.000001\t0.0\tkeep\tby hand\n')
    assert md_title(texts(copy)[0]).endswith('no row that anybody ran in 1 experiment')

def test_a_corrected_description(copy, made):
    (copy/'summary.md').unlink()
    change_notes(copy, rows(copy)[1][0], description='of degree\tthree')
    md,page = texts(copy)
    assert ('`a cubic`' in made[0] and 'a cubic' not in md + page
        and md_table(md, 'n', 'commit', 'rmse', 'gain')[2][-1] == '`of degree three`')
    change_notes(copy, rows(copy)[1][0], description=5)
    assert (collect(find_session(TAG, 'polynomial', str(copy))).experiments[1].row.description
        == 'a cubic'), 'the row says it too'

def test_disturbed_and_overran_are_said(copy):
    (copy/'summary.md').unlink()
    led = rows(copy)
    lost = next(r for r in led if r[3] == 'discard')
    # what is no tenth of a second is not said
    for r in led: change_notes(copy, r[0], disturbed='', overran=0.04)
    change_notes(copy, led[1][0], disturbed='two others | at work', overran=0)
    change_notes(copy, lost[0], overran=3.25, disturbed='')
    md,page = texts(copy)
    keeps = md_table(md, 'n', 'commit', 'rmse', 'gain')
    assert (keeps[0][-2:] == ['doubt', 'what it tried']
        and keeps[2][-2] == '`disturbed: two others \\| at work`'
        and keeps[1][-2] == keeps[-1][-2] == '' and len({len(r) for r in keeps}) == 1)
    assert [r[-2] for t in md_tables(md) if t[0][:3] == ['n', 'commit', 'missed by']
        for r in t[1:] if r[1] == lost[0]] == ['`overran by 3.2 s`']
    n = 1 + led.index(lost)
    assert f'disturbed: 2; over the budget: {n}.' in md
    said = {r[1]: r[-1] for r in md_table(md, 'n', 'commit', 'rmse', 'steps')[1:]}
    assert 'disturbed: two others' in said[led[1][0]] and 'overran by 3.2 s' in said[lost[0]]
    odd = (dict(disturbed=5, overran='x'), dict(disturbed=[1], overran=None),
        dict(steps='x', rate=[]), dict(steps=-1, rate=float('nan'), overran=float('inf')),
        dict(disturbed={'a': 1}, rate=True))
    for r,more in zip(led, odd): change_notes(copy, r[0], **more)
    assert md_title(texts(copy)[0]) == md_title(md), 'a page comes out'

def test_speed():
    block = dict(num_steps=953, training_seconds=300.1, total_tokens_M=499.6)
    assert (speed(dict(block=block)) == (953, 499.6e6/300.1)
        and speed(dict(block=block, steps=950, rate=1.6e6)) == (950, 1.6e6))
    assert (speed(dict(block=dict(num_steps=300, training_seconds=.5))) == (300, 600.)
        and speed(dict(block=dict(num_steps=3))) == (3, 0))
    for odd in ({}, dict(block=[]), dict(block=dict(num_steps='x', training_seconds=0)),
            dict(steps=True, rate='1')):
        assert speed(odd) == (0, 0)
    assert [paced(v) for v in (0, 5.25, 999, 22_400, 1.66e6)] == [
        'unknown', '5.25', '999', '22.4 k', '1.66 M']
    assert [against(*o) for o in ((95, 100), (100, 95), (0, 1), (1, 0))] == [
        '−5.0 %', '+5.3 %', '', '']

def test_how_the_last_search_ended(copy):
    s = find_session(TAG, 'polynomial', str(copy))
    f = s.dir/'search.json'
    assert last_search(s) == []
    asked = dict(trials=16, hours=0., seed=0, sampler='tpe')
    def left(name='tpe', **more):
        f.write_text(json.dumps(dict(name=name, asked=asked, spent=0., edit='', **more)))
    end = dict(time=1e9, code=3, why='README.md | was changed')
    waits = dict(reason='the tree | is dirty', since=1e9)
    cut_off = [['search ended',
        f'without a word: it was cut off; runs/{TAG}/search.log has its last lines']]
    for more,says in [(dict(open=True, ended=end),
                [['search ended', '2001-09-09 01:46 UTC, exit code 3'], ['because', end['why']]]),
            (dict(open=True, waiting=waits, ended=None),
                [['search waits', 'since 2001-09-09 01:46 UTC'], ['for', 'the tree | is dirty']]),
            (dict(open=False), []), (dict(open=True, waiting=None, ended=None), cut_off),
            (dict(ended=[1], waiting='x'), []),
            (dict(ended=dict(time=1e200, code=[], why='full')),
                [['search ended', 'unknown, exit code []'], ['because', 'full']]),
            (dict(open=True, ended=dict(time='x', code=[], why=None)), cut_off)]:
        left(**more)
        assert last_search(s) == [['last search', 'tpe'], *says]
    left(name='<b>', ended=end)
    md,page = texts(copy)
    assert (facts(md)['because'] == '`README.md \\| was changed`'
        and facts(md)['last search'] == '`<b>`' and '<b>' not in Page(page).tags)
    f.write_text(json.dumps(dict(name='tpe', open=True, ended=end)))
    assert last_search(s) == [], 'what ar-status does not believe, the report does not'
    assert [utc(t) for t in (0, None, 'x', 1e300, float('nan'))] == (
        ['1970-01-01 00:00 UTC'] + ['unknown']*4)

# whatever stands in a session, a page comes out

DEEP = '['*100_000

def test_canvases_that_are_no_notebooks(copy, made):
    "A commit may hold anything under the canvas' name: it is named, and the rest is as it was"
    (copy/'summary.md').unlink()
    shas = []
    for text in ('junk', '[]', DEEP,
            '{"cells": [{"cell_type": []}], "metadata": {}, "nbformat": 4}',
            '{"cells": [{"cell_type": "code", "metadata": {}, "source": "x", "outputs": [], '
            '"execution_count": null, "id": 5}], "metadata": {}, "nbformat": 4}'):
        (copy/'canvas.ipynb').write_text(text)
        commit(copy, 'odd')
        shas.append(git(copy, 'rev-parse', '--short=7', 'HEAD'))
    ran(copy, *(Row(c, .00001 if i == 2 else .5, 0., 'keep' if i == 2 else 'discard', f'odd {i}')
        for i,c in enumerate(shas)))
    md,page = texts(copy)
    assert ({r[0] for r in md_table(md, 'could not be read')[1:]}
        == {f'`canvas of {c}`' for c in shas}
        and 'a commit whose canvas git no longer has, or nobody can read' in md)
    assert f'The canvas is no notebook in {shas[2]}, so there is no difference to show' in md

def test_files_that_hold_nonsense(copy, made):
    (copy/'summary.md').unlink()
    dirs = sorted((copy/'runs'/TAG).glob('[0-9]*-*'))
    for d,text in zip(dirs, (DEEP, '[]', 'NaN', '{"clock": 5}',
            '{"clock": {"budget": NaN, "kind": []}}', '\0', '')):
        (d/'record.json').write_text(text)
    for d in dirs[7:9]: (d/'run.log').unlink()
    for name in ('rewinds.json', 'search.json'): (copy/'runs'/TAG/name).write_text(DEEP)
    with open(copy/'results.tsv', 'ab') as f: f.write(b'm\xfcll\n' + b'\0'*50)
    change_notes(copy, dirs[1].name[4:], host={'a': [1], 'b': {'c': None}},
        started=-1e200, contract='x'*5000)
    change_notes(copy, dirs[2].name[4:], time=1e200, seed=1e300)
    md,page = texts(copy)
    assert (md_title(md) == md_title(made[0])
        and {r[0] for r in md_table(md, 'could not be read')[1:]}
        >= {f'`{d.name}/record.json`' for d in [*dirs[:3], *dirs[5:7]]})

def test_a_profile_that_the_settings_lost(copy, made):
    "The base commit's settings still have it; another profile is refused with both names"
    (copy/'summary.md').unlink()
    f = copy/'settings.ini'
    f.write_text(
        f.read_text().replace('[polynomial]', '[sine]').replace('metric = rmse', 'metric = mae'))
    md,_ = texts(copy)
    assert md_title(md) == md_title(made[0]) and facts(md)['budget'].endswith('profile polynomial')
    assert ((p := find_session(TAG, 'polynomial', str(copy)).p).root == copy
        and (p.name, p.metric) == ('polynomial', 'rmse'))
    r = report(copy, TAG, '--profile', 'sine', ok=False)
    assert (r.returncode == 1 and 'sine' in r.stderr and 'polynomial' in r.stderr
        and 'Traceback' not in r.stderr)

# requests that can't be met

def test_refused(first, tmp_path):
    r = report(first, 'nope', ok=False)
    assert (r.returncode == 1 and "no session 'nope'" in r.stderr
        and f'sessions here: {TAG}' in r.stderr and 'Traceback' not in r.stderr)
    for name,data,says in [('no.md', None, 'No such file'),
            ('bytes.md', b'\xff\xfe', 'not UTF-8'), ('empty.md', b' \n', 'is empty'),
            ('long.md', b'x'*10_001, '10001 characters; accepted: at most 10000')]:
        if data is not None: (tmp_path/name).write_bytes(data)
        with pytest.raises(Refused, match=f'{name}: .*{says}'): read_summary(tmp_path/name)
    r = report(first, '--out', 'results.tsv', ok=False)
    assert r.returncode == 1 and 'results.tsv: is a file' in r.stderr

def test_a_damaged_state_is_named(copy, made):
    "Or, where the session's state is kept elsewhere too, the report is what it was"
    (copy/'summary.md').unlink()
    for state in ('{"tag": "nov1"}', '{"base": 5, "profile": "polynomial"}', '[]', '{'):
        (copy/'runs'/TAG/'state.json').write_text(state)
        r = report(copy, TAG, ok=False)
        if r.returncode == 0:
            assert md_title((copy/'runs'/TAG/'report/report.md').read_text()) == md_title(made[0])
        else:
            assert (r.returncode == 1 and f'runs/{TAG}/state.json is missing or damaged' in r.stderr
                and 'Traceback' not in r.stderr), r.stderr

def test_without_git(copy):
    (copy/'summary.md').unlink()
    shutil.rmtree(copy/'.git')
    for args in ([], [TAG]):
        r = sh(copy, sys.executable, '-m', 'autoresearch.report', *args, ok=False,
            GIT_CEILING_DIRECTORIES=str(copy.parent))
        assert (r.returncode == 1
            and f'no git repository here: {copy}; go to the checkout' in r.stderr
            and 'HEAD' not in r.stderr and 'fatal' not in r.stderr)

def test_another_branch(copy):
    (copy/'summary.md').unlink()
    git(copy, 'switch', '-q', 'main')
    r = report(copy, ok=False)
    assert r.returncode == 1 and f'ar-report TAG; sessions here: {TAG}' in r.stderr
    assert find_session(TAG, 'polynomial', str(copy)).tag == TAG

def test_a_failure_leaves_the_report_that_was_there(copy, made):
    folder = copy/'runs'/TAG/'report'
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    f = copy/'results.tsv'
    f.write_text(f.read_text().replace('\trmse\t', '\taccuracy\t'))
    r = report(copy, ok=False)
    assert (r.returncode == 1 and 'column 2 is accuracy, but the metric is rmse' in r.stderr
        and 'Traceback' not in r.stderr)
    assert ({f.name: f.read_bytes() for f in folder.iterdir()} == before
        and set(before) == {'report.html', 'report.md',
            *(f'{n}{k}.png' for n in ('1-staircase', '3-seconds') for k in ('', '-dark'))})

def test_hundreds(copy):
    """Five hundred experiments with long and hostile descriptions: a page below 5 MB, a Markdown
    that GitHub takes"""
    (copy/'summary.md').write_text('word '*1900)
    def made(i, status):
        return Row(f'{i+0xabcdef0:07x}', .04-i/1e5 if status == 'keep' else .3, 1., status,
            f'{i} ' + '|<&`@'*60)
    ran(copy, *(made(i, ('discard', 'keep', 'crash', 'discard')[i%4]) for i in range(500)))
    md,page = texts(copy, '--summary', 'summary.md')
    assert len(page.encode()) < 5e6 and len(md) <= 65_536
    assert (page.count('|&lt;&amp;`@') > 500 and 'more rows in `report.html`' in md
        and all(len({len(r) for r in t}) == 1 for t in md_tables(md)))

# the parts

def test_one_and_many():
    assert [many(n, 'experiment') for n in (0, 1, 2)] == [
        '0 experiments', '1 experiment', '2 experiments']
    assert (cut('a\nb', 2) == 'a\n… 1 more line'
        and '1 more row in' in table(['x'], [['1'], ['2']], [['1']]).markdown)

def test_one_look():
    "The page's letters are the dashboard's"
    fonts = lambda name: set(re.findall(r'font:[^ ]+ ([^;}]+)',
        (ROOT/'autoresearch'/name).read_text())) - {'inherit'}
    assert (fonts('report.py')
        == {'"DejaVu Sans",Verdana,sans-serif', '"DejaVu Sans Mono",monospace'}
        <= fonts('dashboard.py'))

def nb(**cells):
    return new_nb([mk_cell('SEED = 1', id='parameters')] + [
        mk_cell(v.removeprefix('md:'), 'markdown' if v.startswith('md:') else 'code', id=k)
        for k,v in cells.items()])

def test_touched_and_lines():
    old = nb(hparams='A = 1\nB = 2\nC_D = 3', norm='def norm(x): return x', why='md:prose')
    for change,names,lines in [(dict(hparams='A = 1\nB = 3\nC_D = 3'), ('B',), {'hparams': (1, 1)}),
            (dict(hparams='A = 1\nB == 3\nC_D = 3'), ('hparams',), {'hparams': (1, 1)}),
            (dict(norm='def norm(x):\n\n    return -x'), ('norm',), {'norm': (2, 1)}),
            (dict(why='md:other'), (), {}),
            (dict(hparams='A = 1\nB = 2\n\nC_D = 3'), ('hparams',), {'hparams': (0, 0)})]:
        new = nb(**{**dict(hparams='A = 1\nB = 2\nC_D = 3', norm='def norm(x): return x',
            why='md:prose'), **change})
        assert (touched(old, new), changed_lines(old, new)) == (names, lines), change
    assert touched(old, nb(hparams='A = 5\nB = 6\nC_D = 7', norm='def norm(x): return 0',
        why='md:x')) == ('A', 'B', 'C_D', 'norm')

def test_diff_html():
    old,new = (nb(a='x = 1\nif x < 2: pass', gone='y = 2'),
        nb(a='x = 1\nif x < 3: pass # </pre><script>', fresh='z = "&"'))
    text = diff_html(old, new)
    page = Page(text)
    assert 'script' not in page.tags and diff_html(old, old) == ''
    shown = [l for l in cells_diff(old, new).split('\n') if not l.startswith(('---', '+++'))]
    assert [html.unescape(l) for l in re.findall(
        r'<(?:ins|del|span) class="ar-\w+">(.*)\n</', text)] == shown
    assert (text.count('class="ar-add"') == sum(l[0] == '+' for l in shown)
        and text.count('class="ar-del"') == sum(l[0] == '-' for l in shown))

def test_pace():
    notes = [{'class': c, 'status': s, 'started': 100.*i, 'time': 100.*i+60, 'seconds': 50.,
        'block': dict(training_seconds=30.) if c == 'ok' else {}}
        for i,(c,s) in enumerate([('ok', 'keep'), ('oom', 'crash'), ('ok', 'discard')])]
    p = pace([*notes, {'class': 'interrupted', 'status': 'interrupted', 'started': 300.}], now=400.)
    assert (p['experiments'], p['lost'], p['since_keep'], p['each'], p['by_class']) == (
        3, 20., 340., 100., dict(ok=2, oom=1, interrupted=1))
    assert (p['per_hour'] == pytest.approx(3*3600/260)
        and p['keeps_per_hour'] == pytest.approx(3600/260))
    assert [project(p, r, 400.+s) for r,s in (
        (None, 50), (None, 250), (50., 50), (5000., 0), (50., 0))] == [3, 5, 4, 4, 3]
    assert project(pace([], now=0.), 5., 1e6) == 0 and pace([])['lost'] is None

def test_only_tagged_cells_are_the_report():
    ids = [c.id for c in report_cells().cells]
    assert 'parameters' in ids and 'keeps' in ids and not [i for i in ids if 'lesson' in i]

def test_without_nbconvert(first, monkeypatch):
    "An extra that is missing is named before minutes are spent"
    monkeypatch.setitem(sys.modules, 'nbconvert', None)
    with pytest.raises(Refused, match=re.escape(install_line('report'))):
        write_report(find_session(TAG, 'polynomial', str(first)))

def test_the_command_is_installed():
    assert 'ar-report = "autoresearch.report:ar_report"' in (ROOT/'pyproject.toml').read_text()

def test_lint_and_examination_are_told(tmp_path):
    "Where notes have them; whatever else stands there costs nothing"
    root = example(tmp_path/'repo')
    setup(root)
    run(root, 'baseline')
    f = next((root/'runs'/TAG).glob('001-*/experiment.json'))
    notes = json.loads(f.read_text())
    odd = ['loop, line 3: evaluates text: eval("<b>")', 5]
    for lint,examined,told in [(odd, 'yes', 'evaluates'),
            ('odd', 'no', '| no |'), ('odd', 'refused', '| refused |'), ({}, ['yes'], '')]:
        f.write_text(json.dumps({**notes, 'lint': lint, 'examined': examined}))
        report(root)
        page,text = (root/'runs'/TAG/'report'/n for n in ('report.html', 'report.md'))
        assert told in text.read_text() and '"<b>"' not in page.read_text()
        assert ('to look at' in text.read_text()) == bool(told)

def one(status='keep', vouched=True, **notes):
    return Experiment(2, Row('0c0ffee', .9, 1, status, 'x'), notes, .1, {}, (), vouched)

def test_a_refusal_of_the_examiner_is_told():
    assert [looked(one('crash', examined=o))[0] for o in ('refused', 'odd', None)] == [
        'refused', 'not noted', 'not noted']

BARE = dict(walls='none', held=dict(why='by --walls none'))
ALONE = dict(examined='no', examination='by --no-examine')

@pytest.mark.parametrize('experiments,told', [
    ([one(), one('crash')], []), # of an older version: nothing is known
    ([one(walls='bwrap', held=dict(why='x'), examined='yes')], []),
    ([one(**BARE), one('crash', **BARE)], [('walls: none for', 2, '2 runs', 'by --walls none')]),
    ([one(**BARE), one(walls='landlock')], [('walls: none for', 1, '2 runs', 'by --walls none')]),
    ([one(**BARE), one(**BARE, vouched=False)],
        [('walls: none for', 1, '1 run', 'by --walls none')]),
    ([one(**BARE), one(walls='none', held=dict(why='bwrap: a\nb')), one(walls='none', held=5)],
        [('walls: none for', 3, '3 runs',
            '1 by --walls none; 1 bwrap: a b; 1 for no reason noted')]),
    ([one(walls='none', held=dict(why=str(i))) for i in range(5)],
        [('walls: none for', 5, '5 runs', '1 0; 1 1; 1 2 …')]),
    ([one(**ALONE), one('discard', **ALONE), one(examined='yes')],
        [('examined: no for', 1, '2 keeps', 'by --no-examine')]),
    ([one(examined='no'), one('crash', examined='refused')],
        [('examined: no for', 1, '1 keep', '')])])
def test_what_had_no_guard_is_counted(experiments, told): assert unguarded(experiments) == told

def test_a_night_without_walls_says_so(tmp_path):
    "In a session's report, whatever its notes hold"
    root = example(tmp_path/'repo')
    setup(root)
    ar(root, 'ar-run', '--walls', 'none', '-m', 'baseline')
    f = next((root/'runs'/TAG).glob('001-*/experiment.json'))
    notes = json.loads(f.read_text())
    assert (notes['walls'], notes['examined']) == ('none', 'no')
    text,page = texts(root)
    for said in ('walls: none for 1 of 1 run (', 'examined: no for 1 of 1 keep ('):
        assert text.count(said) == page.count(said) == 1
    assert '(`by --walls none`)' in text and f'(`{notes["examination"]}`)' in text
    f.write_text(json.dumps({**notes, 'held': dict(why='<b>|{}|</b>'), 'examination': [5]}))
    text,page = texts(root)
    assert '<b>|' not in page and 'examined: no for 1 of 1 keep\n' in text

def runs_of(commit, *values): return [dict(commit=commit, value=v, seconds=5.) for v in values]

def test_what_is_sure_stands_first(tmp_path):
    "Runs, certainty, gains with their errors, repeats, a run that was cut, another machine"
    root = example(tmp_path/'repo')
    setup(root)
    run(root, 'baseline')
    for old,new in (('DEGREE = 1 ', 'DEGREE = 3 '), ('STEPS = 300', 'STEPS = 20')):
        edit(root, old, new)
        run(root, new)
    before = texts(root)
    for word in ('How sure', '| sure |', 'sigma', 'Repeats', 'saved', 'machine changed'):
        assert word not in before[0]
    first,best,bad = [Row(c, float(v), float(m), *o) for c,v,m,*o in rows(root)]
    assert (first.status, best.status, bad.status) == ('keep', 'keep', 'discard')
    change_notes(root, first.commit, runs=runs_of(first.commit, first.value))
    change_notes(root, best.commit, certainty=.9987, best_commit=first.commit,
        runs=runs_of(best.commit, best.value, best.value + .02), best=first.value,
        best_runs=runs_of(first.commit, first.value + .01),
        gain=dict(gain=.5, error=.07, df=4), noise=dict(sigma=.01, low=.005, high=.03, df=4),
        rows=dict(gain=.51, error=.003, rows=200, documents=40),
        equal=dict(steps=300, at_steps=.2, seconds=3, at_seconds=-.1, speed=.9))
    change_notes(root, bad.commit, best_commit=best.commit, saved=.5, **{'class': 'early'})
    old = notes(root)[1]
    again = root/'runs'/TAG/f'004-{best.commit}'
    again.mkdir()
    (again/'experiment.json').write_text(json.dumps({**{k: old[k] for k in ('commit', 'parent',
        'class', 'reason', 'seconds', 'started', 'time', 'block')}, 'dir': again.name,
        'status': 'repeat', 'value': best.value + .04, 'seed': 77, 'disturbed': 'by <b>'}))
    text,page = texts(root)
    mean = f'{best.value + .01:.6f}' # what was disturbed does not count
    kept = md_table(text, 'n', 'commit', 'rmse', 'gain', 'sure')
    assert [r[2:5] for r in kept[1:3]] == [[f'{first.value + .005:.6f}', '0.000000', 'baseline'],
        [mean, f'{first.value + .005 - best.value - .01:.6f}', '99.87 %']]
    assert md_title(text).split('→')[1].split()[0] == mean
    assert facts(text)['noise of training, sigma'] == (
        '0.010000 of a run, 95 % interval 0.005000 to 0.030000')
    told = dict(zip(*md_table(text, 'n', 'sure that it is better', 'commit')))
    assert (told['runs'] == f'2, their mean {best.value + .01:.6f}; 1 more of the best'
        and told['gain, by the noise of training'] == '0.500000 ± 0.070000'
        and told['gain, by the choice of text'] == (
            '0.510000 ± 0.003000 (200 rows of 40 documents)')
        and told['at equal steps'] == 'loss lower by 0.2000 nats after 300 steps'
        and told['at equal time'] == (
            'loss higher by 0.1000 nats after 3 s, −10.0 % steps a second'))
    assert md_table(text, 'n', 'commit', 'rmse', 'seed')[1] == [
        '4', best.commit, f'{best.value + .04:.6f}', '77', '`by <b>`']
    assert 'at 50% of its budget, 50% saved' in text and 'cut early' in text
    assert '3 experiments and 1 repeat of the best in' in text and 'by <b>' not in page
    assert md_table(text, 'what', 'seconds')[-2][1] == '10.0' and 'machine changed' not in text
    change_notes(root, bad.commit, **{'break': 'GPU: <i> -> B'})
    text,page = texts(root)
    assert facts(text)['the machine changed'] == '`before experiment 3: GPU: <i> -> B`'
    assert 'noise of training, sigma' not in facts(text) and '<i>' not in page
    said = dict(commit=best.commit*5, value=.31, error=.004, rows=400, seconds=9., time=1.7e9)
    (root/'runs'/TAG/'final.json').write_text(json.dumps(said))
    told = report(root, '--finish').stdout
    text = (root/'runs'/TAG/'report/report.md').read_text()
    assert 'final' not in told.replace(str(root), ''), 'what is stored is not scored again'
    assert f'the last keep, `{best.commit}`, has rmse 0.310000 ± 0.004000 (standard' in text
    assert '400 rows' in text and 'once, 2023-11-14 22:13 UTC' in text

def test_the_grammar_that_nobody_asks_is_not_built():
    "It costs more than a second of every report"
    code = ('import sys, autoresearch.report as r; r.exporters(); '
        'print([m for m in sys.modules if m.startswith("rfc3987") and sys.modules[m]])')
    assert sh(ROOT, sys.executable, '-c', code).stdout.strip() == '[]'

def test_a_finished_session_is_scored_and_says_so(tmp_path, monkeypatch):
    "Once, and the report is made whatever comes of it"
    from autoresearch import report as module
    p = SimpleNamespace(source='embedded', final_shard=2, metric='val_bpb')
    s = SimpleNamespace(dir=tmp_path, p=p)
    monkeypatch.setattr(module, 'is_finished', lambda s, finish: finish or s.p.final_shard == 3)
    assert score_once(s) == [], 'it goes on'
    p.final_shard = 3
    assert score_once(s) == [], 'an older session, of which nothing was kept to score'
    def refuse(s): raise Refused('the weights are gone')
    (tmp_path/'audit').mkdir()
    monkeypatch.setattr(module, 'final_score', refuse)
    assert score_once(s) == ['final: no value: the weights are gone']
    monkeypatch.setattr(module, 'final_score', lambda s: dict(value=.9, seconds=31.))
    assert score_once(s) == ['final: val_bpb 0.900000, scored once, in 31 s']
    monkeypatch.setattr(module, 'stored_final', lambda s: dict(value=.9))
    assert score_once(s) == []
    monkeypatch.setattr(module, 'stored_final', lambda s: {})
    p.final_shard = -1
    assert score_once(s, finish=True) == ['final: the profile has no shard for it']

def test_a_swarm_has_its_lanes(copy, made):
    "Runs of two slots at a time: a picture, how idle they stood, and no time below zero"
    assert 'The swarm' not in made[0] and 'between the runs' in made[0]
    began = notes(copy)[0]['started']
    lines = [dict(slot=f'ant/{i%2}', host='ant', job=f's{i:03d}', key=f's{i:03d}/1',
        whose='candidate', commit=r[0], seed=1, began=began+20*(i//2), ended=began+20*(i//2)+15,
        status='lost' if i == 3 else 'ok', value=.5) for i,r in enumerate(rows(copy))]
    folder = copy/'runs'/TAG/'swarm'
    folder.mkdir()
    (folder/'lanes.jsonl').write_text(''.join(json.dumps(o) + '\n' for o in lines) + '{"slot')
    md,page = texts(copy)
    idle = f'{1 - 6*15/(5*20+15):.1%}'
    said = 'A swarm of 2 slots made 12 runs (lost with a worker and tried again: 1); its slots'
    assert said in md and f'stood idle for {idle} of the time' in md, md[-3000:]
    assert 'alt="A lane for each slot' in md
    assert (copy/'runs'/TAG/'report/4-lanes.png').stat().st_size > 999
    spent = dict(re.findall(r'^\| ([a-z].*?) \| (-?[\d.]+) \| [\d.]+% \|$', md, re.M))
    assert 'between the runs' not in spent and spent['slots of the swarm that stood idle'] == (
        f'{2*115 - 12*15:.1f}') and min(map(float, spent.values())) >= 0

def test_the_audit_stands_beside_the_search(copy, made):
    "Where keeps were scored on other text: both staircases and what they say, or what lacks"
    assert 'On text that decides nothing' not in made[0]
    folder = copy/'runs'/TAG/'audit'
    folder.mkdir()
    kept = [r for r in rows(copy) if r[3] == 'keep'][:3]
    def nats(value, seed):
        noise = np.random.default_rng(seed).normal(0, .001, 40)
        return np.stack([(value + noise - noise.mean())*math.log(2)*1000, np.full(40, 1000.)], 1)
    for k,(commit,value,*_) in enumerate(kept):
        d = next((copy/'runs'/TAG).glob(f'[0-9]*-{commit}'))
        number = int(d.name.split('-')[0])
        np.save(d/'row_nats.npy', nats(float(value), k).astype('float32'))
        np.save(folder/f'{number:03d}-rows.npy', nats(.95-.01*k, 9+k))
        (folder/f'{number:03d}.json').write_text(json.dumps(dict(commit=d.name[4:], number=number,
            value=.95, error=.002, rows=40, which='audit')))
    md,page = texts(copy)
    assert 'On text that decides nothing' in md and '3 keeps, scored on' in md
    assert 'of the validation text alone' in md and page.count('<picture') == 6
    assert re.findall(r'src="([^"]+)"', md) == ['1-staircase.png', '2-audit.png', '3-seconds.png']
    for f in folder.glob('*-rows.npy'): f.unlink()
    md,page = texts(copy)
    assert 'The audit can not be shown: `' in md and page.count('<picture') == 4
    assert str(copy) not in md, 'a path of this machine'

@pytest.mark.parametrize('seed', range(3))
def test_notes_that_lack_or_pervert_a_key(copy, seed):
    "An expedition's notes without `dir`, keys dropped or of another type: told, never a traceback"
    rng = random.Random(seed)
    s = find_session(TAG, 'polynomial', str(copy))
    dirs = s.run_dirs()
    whole = {d: (d/'experiment.json').read_text() for d in dirs}
    odd = [None, 5, -1, 'x', [], {}, [None], True, float('nan'), 10**400]
    (s.dir/'swarm').mkdir()
    for i in range(25):
        for d,text in whole.items():
            o = json.loads(text)
            if d in dirs[2:5] and i%2: o |= {'expedition': 1, 'class': 'expedition', 'status': 'discard'}
            o.pop('dir', None) if d in dirs[2:5] else None
            for k in rng.sample(sorted(o), 2):
                if rng.random() < .4: del o[k]
                else: o[k] = rng.choice(odd)
            (d/'experiment.json').write_text(json.dumps(o))
        (s.dir/'swarm/status.json').write_text(json.dumps(dict(slots=rng.choice(odd + [[]]),
            time=rng.choice(odd), state=rng.choice(odd + ['stopped']))))
        (dirs[0]/'usage.json').write_text(json.dumps(dict(columns=rng.choice(odd),
            rows=rng.choice(odd))))
        found = collect(s)
        assert dict(happened(found))['why'] and len(found.experiments) == 12
        assert all(e.number == str(k) or e.number.startswith('row')
            for k,e in enumerate(found.experiments, 1))
        reports.expeditions_of(found)
        reports.as_frame(found.experiments)
        reports.energy(s)

def test_what_happened_is_told_first(copy):
    "Why it stopped: a search that ended, unless something came after it; a stop from outside"
    s = find_session(TAG, 'polynomial', str(copy))
    def told(): return dict(happened(collect(find_session(TAG, 'polynomial', str(copy)))))
    why = told()
    assert 'nobody left a word' in why['why'] and 'ar-status --brief' in why['what to do']
    crashed = sum(r[3] == 'crash' for r in rows(copy))
    assert why['lost to'].startswith(f'{crashed} × error (') and why['tried'].startswith('12: ')
    last = max(n['time'] for n in notes(copy))
    end = dict(time=last+5, code=0, why='6 trials, as asked')
    asked = dict(trials=6, hours=0., seed=0, sampler='tpe')
    state = dict(name='tpe', asked=asked, spent=0., edit='', open=False, ended=end)
    (s.dir/'search.json').write_text(json.dumps(state))
    assert told()['why'] == 'a search ended by itself: 6 trials, as asked'
    assert told()['stopped'] == utc(end['time'])
    (s.dir/'search.json').write_text(json.dumps({**state, 'ended': {**end, 'time': last-1e4}}))
    assert told()['why'] == why['why'], 'experiments came after it'
    (d := s.dir/'099-abcdef0').mkdir()
    (d/'experiment.json').write_text(json.dumps({'class': 'interrupted', 'status': 'interrupted',
        'dir': d.name, 'commit': 'abcdef0'*5 + 'abcde', 'started': last+9}))
    now = told()
    assert now['why'].startswith('run 099 was ended from outside: by ar-stop'), now
    assert now['ended from outside'].startswith('099-abcdef0, at ')
    assert now['stopped'] == utc((d/'experiment.json').stat().st_mtime), 'when it was ended'
    os.utime(d/'experiment.json', (last-99, last-99))
    assert told()['why'] == why['why'] and '099-abcdef0' in told()['ended from outside'], 'before it'
    (copy/'results.tsv').write_text('commit\trmse\tmemory_gb\tstatus\tdescription\n')
    assert 'the ledger has no row' in told()['why'] and 'ar-status' in told()['what to do']

def test_a_session_that_was_finished_says_so(copy):
    "The branch that ar-finish made is the last event, until another run; in another session, too"
    def told(): return dict(happened(collect(find_session(TAG, 'polynomial', str(copy)))))
    last = rows(copy)[-1][0]
    ar(copy, 'ar-finish', '--no-report')
    assert told()['why'] == f'ar-finish made the branch {TAG}-series of its keeps'
    at = int(git(copy, 'log', '-1', '--format=%ct', f'{TAG}-series'))
    assert told()['stopped'] == utc(at)
    ar(copy, 'ar-setup', 'nov2')
    assert told()['why'] == (f'ar-finish made the branch {TAG}-series of its keeps; '
        'the session that is open is nov2')
    change_notes(copy, last, time=at+60., started=at+9.)
    assert told()['why'].startswith('nobody left a word'), 'a run came after it'

def test_energy_is_what_was_measured(tmp_path):
    "Of every run with a sensor's watts; nothing of what holds nonsense"
    s = SimpleNamespace(run_dirs=lambda: sorted(tmp_path.iterdir()))
    def used(name, **o):
        (tmp_path/name).mkdir()
        (tmp_path/name/'usage.json').write_text(json.dumps(o))
    used('a', columns=['seconds', 'watts'],
        rows=[[1, 100], [2, None], [4, 50.], 'x', [5], [3, 9e9]])
    used('b', columns=['watts', 'seconds'], rows=[[600, 10], ['x', 20]])
    for i,o in enumerate([dict(columns=5, rows=[]), dict(columns=['seconds'], rows=[[1]]),
            dict(columns=['seconds', 'watts'], rows={}), {}]): used(f'c{i}', **o)
    assert energy(s) == (100 + 2*50 + 6000, 3 + 10)

def test_a_value_of_ninety_digits_is_no_column(copy, made):
    "A try that diverged: its size is told, everywhere"
    (copy/'summary.md').unlink()
    lost = next(r for r in rows(copy) if r[3] == 'discard')
    f = copy/'results.tsv'
    f.write_text(f.read_text().replace(f'{lost[0]}\t{lost[1]}', f'{lost[0]}\t{1.0371e85:.6f}'))
    change_notes(copy, lost[0], value=1.0371e85,
        equal=dict(steps=300, at_steps=-2.7e127, seconds=3, at_seconds=-1e99, speed=.9))
    md,page = texts(copy)
    assert '1.04e+85' in md and 'higher by 2.70e+127 nats' in md
    for text in (md, re.sub(r'base64,[^"]+', '', page)):
        assert not re.search(r'(?<![\da-f])\d{20}(?![\da-f])', text)

def test_further_runs_take_their_start_up_with_them():
    "What passed by the clock beside the first run; where several ran at a time, their training"
    more = [dict(seconds=.5)]*3
    n = dict(started=100., time=160., seconds=10., runs=[dict(seconds=9.), *more],
        best_runs=more[:1])
    assert further(n) == 50. and further(n, wall=False) == 2. == further({**n, 'time': 'x'})
    assert further({**n, 'time': 111.}) == 2., 'a clock that was set back'
    assert further({**n, 'runs': [dict(seconds=9.)], 'best_runs': None}) == 0.
