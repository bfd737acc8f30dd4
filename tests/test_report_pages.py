"""The report in a real browser: headless Chromium opens the page, alone in a folder, at the widths
of a telephone and of a wide screen, in light and dark, and the Markdown beside its pictures."""
import json, re, shutil
from pathlib import Path
import pytest
import lab
from autoresearch.ledger import Row
from test_browser import EVIL, SHOTS, browser # noqa: F401

WIDTHS = 360, 420, 768, 1300, 2000
LONG = ('grouped-query attention with two heads for keys and values, which frees memory for a '
    'larger batch, and that is then doubled as well while all the rates stay as they were')

def made_up(root, last, i):
    "Notes like those of the `last` experiment, with something of each thing that a report tells"
    commit = f'{0xabcde00+i:07x}'*5 + 'abcde'
    crashed,kind = i%9 == 4, 'expedition' if i in (20, 21) else 'ok'
    began = last['time'] + 340*i
    noise = dict(sigma=.001, low=.0006, high=.002, df=5) if i > 5 else None
    more = dict(disturbed='two others at work', overran=3.2) if i == 7 else {}
    if i == 12: more = dict(**{'break': 'GPU: NVIDIA A100 -> NVIDIA H100'})
    if kind == 'expedition': more = dict(expedition=1)
    run = dict(last['runs'][0], commit=commit, value=.2+.001*i, seconds=320.)
    block = dict(rmse=.2, training_seconds=300.1, total_tokens_M=499.6, num_steps=900+i)
    return {**last, 'commit': commit, 'dir': f'{i+50:03d}-{commit[:7]}', 'parent': last['commit'],
        'best_commit': last['commit'], 'best': last['value'], 'number': i+5, 'started': began,
        'time': began+330, 'seconds': 330., 'value': .2+.001*i, 'block': block, 'noise': noise,
        'class': 'oom' if crashed else kind, 'status': 'crash' if crashed else 'discard',
        'runs': [] if crashed else [run, dict(run, seed=43)], 'best_runs': [], 'certainty': .31,
        'gain': dict(gain=-.1, error=.001, df=5), 'reason': 'oom: CUDA out of memory. Tried 2 GiB',
        'lint': ["loop, line 3: reads or writes files: open('x')"]*(i == 3),
        'description': [f'idea {i}', EVIL, LONG][i%3], **more}

def add(root, n):
    "Made-up experiments after the real ones: rows, notes, what they drew, lanes of a swarm"
    runs = root/'runs'/lab.TAG
    last = json.loads((sorted(runs.glob('[0-9]*-*'))[2]/'experiment.json').read_text())
    lines,lanes = [], []
    for i in range(n):
        o = made_up(root, last, i)
        (d := runs/o['dir']).mkdir()
        (d/'experiment.json').write_text(json.dumps(o))
        (d/'usage.json').write_text(json.dumps(dict(columns=['seconds', 'watts'],
            rows=[[10*k, 612.] for k in range(1, 34)])))
        row = Row(o['commit'], o['value'], 44., o['status'], o['description'])
        lines.append(row.line() + '\n')
        lanes.append(dict(slot=f'ant/{i%3}', host='ant', job=f's{i}', key=f's{i}/1',
            whose='candidate', commit=o['commit'], seed=1, began=o['started'],
            ended=o['time'], status='ok', value=.2))
    with open(root/'results.tsv', 'a') as f: f.writelines(lines)
    (runs/'swarm').mkdir()
    (runs/'swarm/lanes.jsonl').write_text(''.join(json.dumps(o) + '\n' for o in lanes))

@pytest.fixture(scope='module')
def report(tmp_path_factory):
    "The folder of a report on a few real experiments and many that are made up"
    root = lab.example(tmp_path_factory.mktemp('pages')/'repo')
    lab.setup(root)
    lab.run(root, 'baseline')
    for old,new,what in [('DEGREE = 1 ', 'DEGREE = 3 ', 'a cubic'),
            ('RATE = 0.5 ', 'RATE = 0.7 ', EVIL),
            ('budget.step()', 'budget.stepp()', 'no such method')]:
        lab.edit(root, old, new)
        lab.run(root, what)
    lab.ar(root, 'ar-drop')
    add(root, 45)
    with open(root/'results.tsv', 'a') as f:
        f.write('torn | row\nabcdef0\t0.1\t0.0\tkeep\tby hand\n')
    (root/'summary.md').write_text('## Findings\nThe rates were too low, says @me.\n' + LONG)
    lab.ar(root, 'ar-report', '--summary', 'summary.md')
    return root/'runs'/lab.TAG/'report'

@pytest.fixture(scope='module')
def page(report, tmp_path_factory):
    "The page alone, in a folder with nothing else"
    return Path(shutil.copy(report/'report.html', tmp_path_factory.mktemp('alone')))

def opened(d, path, width, theme):
    "A file in a window of this width, all that is folded opened; what it asked for"
    d.get('about:blank')
    for log in ('browser', 'performance'): d.get_log(log)
    d.execute_cdp_cmd('Emulation.setEmulatedMedia',
        dict(features=[dict(name='prefers-color-scheme', value=theme)]))
    d.execute_cdp_cmd('Emulation.setDeviceMetricsOverride',
        dict(width=width, height=900, deviceScaleFactor=1, mobile=False))
    d.get(path.as_uri())
    lab.until(lambda: d.execute_script('return document.readyState === "complete" '
        '&& [...document.images].every(i => i.complete)'))
    d.execute_script('document.querySelectorAll("details").forEach(e => e.open = true)')

def asked_for(d):
    sent = [json.loads(o['message'])['message'] for o in d.get_log('performance')]
    return [o['params']['request']['url'] for o in sent
        if o['method'] == 'Network.requestWillBeSent']

def errors(d): return [l for l in d.get_log('browser') if l['level'] == 'SEVERE']

def shot(d, name, width):
    height = d.execute_script('return document.documentElement.scrollHeight')
    d.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=width,
        height=min(9000, height), deviceScaleFactor=1, mobile=False))
    SHOTS.mkdir(parents=True, exist_ok=True)
    d.save_screenshot(str(SHOTS/f'{name}.png'))

# what is not whole: boxes beyond the window that nothing scrolls, text cut by a box around it, a
# table whose last column no scrolling brings into view, rows that are tall for what is in them
CUT = '''
const W = document.documentElement.clientWidth, bad = [];
const say = (e, why) => { const r = e.getBoundingClientRect(); bad.push(`${why}: ${e.tagName}.`
  + `${e.className} ${Math.round(r.left)}..${Math.round(r.right)} ${Math.round(r.height)} high `
  + `"${e.textContent.trim().slice(0, 50)}"`); };
const style = e => getComputedStyle(e);
const scrolls = e => ['auto', 'scroll'].includes(style(e).overflowX);
if (document.documentElement.scrollWidth > W) bad.push('the page itself scrolls sideways');
for (const e of document.body.querySelectorAll('*')) {
  const r = e.getBoundingClientRect();
  if (!r.width || e.tagName === 'STYLE' || e.parentElement.closest('.wide')) continue;
  if (r.left < -1 || r.right > W + 1) say(e, 'beyond the window');
  if (!scrolls(e) && style(e).overflowX !== 'visible' && e.scrollWidth > e.clientWidth + 1)
    say(e, 'text cut');
  const t = document.createRange();
  for (const n of e.childNodes) if (n.nodeType === 3 && n.textContent.trim()) {
    t.selectNodeContents(n);
    for (const q of t.getClientRects()) if (q.right > W + 1) say(e, 'text beyond the window');
  }
}
for (const w of document.querySelectorAll('.wide')) {
  const table = w.querySelector('table');
  w.scrollLeft = 1e6;
  const end = w.getBoundingClientRect();
  const last = table.rows[0].lastElementChild.getBoundingClientRect();
  if (last.right > end.right + 1 || last.left < end.left - 1) say(table, 'a column out of reach');
  const first = table.rows[0].firstElementChild, at = first.getBoundingClientRect();
  if (first.matches('th.n') && Math.abs(at.left - end.left) > 1) say(first, 'number out of view');
  w.scrollLeft = 0;
  for (const row of table.rows) {
    const most = Math.max(...[...row.cells].map(c => c.textContent.length));
    const lines = Math.max(3, Math.ceil(most/16) + 1);
    if (row.getBoundingClientRect().height > 24*lines + 10) say(row, `tall for ${most} letters`);
    for (const c of row.cells) {
      const t = document.createRange();
      t.selectNodeContents(c);
      const box = c.getBoundingClientRect();
      const parts = [...t.getClientRects()], number = /^-?[\\d.]+$/.test(c.textContent);
      if (parts.some(q => q.right > box.right + 1)) say(c, 'text beyond its cell');
      if (number && parts.length > 1) say(c, 'a number broken');
    }
  }
}
return bad;'''

# pairs of colours with less contrast than 4.5, of every text that is shown
PALE = '''
const parse = s => { const m = (s.match(/[\\d.]+/g) || []).map(Number);
  return [m[0], m[1], m[2], m[3] ?? 1]; };
const over = (a, b) => [0, 1, 2].map(i => a[i]*a[3] + b[i]*(1 - a[3])).concat(1);
const lum = c => [0, 1, 2].map(i => c[i]/255).map(v => v <= .04045 ? v/12.92
  : ((v + .055)/1.055)**2.4).reduce((s, v, i) => s + v*[.2126, .7152, .0722][i], 0);
const ratio = (a, b) => { const [lo, hi] = [lum(a), lum(b)].sort((x, y) => x - y);
  return (hi + .05)/(lo + .05); };
const css = (e, k) => getComputedStyle(e)[k];
const paper = parse(css(document.body, 'backgroundColor'));
const probe = document.body.appendChild(document.createElement('i'));
probe.style.color = 'var(--shade)';
const shade = parse(css(probe, 'color'));
probe.remove();
const ground = e => { const all = []; for (let o = e; o; o = o.parentElement)
    all.push(parse(css(o, 'backgroundColor')));
  return all.reverse().reduce((b, c) => over(c, b), [255, 255, 255, 1]); };
const faint = e => { let v = 1; for (let o = e; o; o = o.parentElement) v *= css(o, 'opacity');
  return v; };
const bad = {}, seen = new Set();
for (const e of document.body.querySelectorAll('*')) {
  const own = [...e.childNodes].filter(n => n.nodeType === 3);
  if (!own.some(n => n.textContent.trim()) || e.tagName === 'STYLE'
      || !e.getBoundingClientRect().width) continue;
  const grounds = [ground(e)];
  if (e.closest('.wide')) grounds.push(over(shade, ground(e)));
  for (const b of grounds) {
    const f = parse(css(e, 'color')), found = ratio(over([f[0], f[1], f[2], f[3]*faint(e)], b), b);
    seen.add(`${f} ${b}`);
    if (found < 4.5) bad[`${e.tagName}.${e.className} ${f} on ${b.map(Math.round)}`] = found;
  }
}
return [bad, seen.size, paper];'''

@pytest.mark.parametrize('theme', ['light', 'dark'])
@pytest.mark.parametrize('width', WIDTHS)
def test_the_page_at_every_width_in_both_themes(browser, page, width, theme):
    """Nothing is cut, every column can be reached, every text has contrast, the pictures are those
    of the theme and as wide as the column; no request leaves the file and no error is said"""
    d,js = browser, browser.execute_script
    opened(d, page, width, theme)
    shot(d, f'report-{width}-{theme}', width)
    assert not (bad := js(CUT)), '\n'.join(bad)
    pale,pairs,paper = js(PALE)
    assert not pale and pairs > 5, pale
    assert paper == ([255, 255, 255, 1] if theme == 'light' else [20, 23, 26, 1])

    # one of each pair of pictures, as wide as there is room, its letters made for that width
    pictures = js('return [...document.querySelectorAll("picture")].map(p => { const i = '
        'p.querySelector("img"); return [p.className, i.offsetWidth, i.naturalWidth, i.alt]; })')
    shown = [o for o in pictures if o[1]]
    assert len(shown) == 3 and len(pictures) == 6 and all(o[3] for o in pictures), pictures
    assert {o[0] for o in shown} == {f'on-{theme}'}
    room = js('const s = getComputedStyle(document.body); return document.body.clientWidth '
        '- parseFloat(s.paddingLeft) - parseFloat(s.paddingRight)')
    for _,wide,natural,_ in shown:
        assert wide > .97*room and (natural < 1000) == (width < 700), (wide, room, natural)
        assert natural >= .9*wide, 'enlarged, it is blurred'

    # by hand: a mouse over what is folded, the tab key through all that has focus
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys
    e = d.find_element('css selector', 'summary')
    js('arguments[0].scrollIntoView({block: "center"})', e)
    ActionChains(d).move_to_element(e).perform()
    assert js('return arguments[0].matches(":hover")', e) and not js(PALE)[0]
    for _ in range(3):
        ActionChains(d).send_keys(Keys.TAB).perform()
        outline = js('const s = getComputedStyle(document.activeElement); '
            'return [document.activeElement.tagName, s.outlineStyle, s.outlineColor]')
        ink = js('return getComputedStyle(document.body).color')
        assert outline[0] in ('DIV', 'SUMMARY') and outline[1:] == ['solid', ink], outline
    assert not js(PALE)[0]

    assert js('return window.pwned === undefined && !document.links.length '
        '&& !document.querySelector("script,link,iframe,form,button,input")')
    asked = asked_for(d)
    assert asked and all(a == page.as_uri() or a.startswith('data:') for a in asked), asked
    assert not (said := errors(d)), said

def test_the_page_answers_first_what_one_asks_in_the_morning(browser, page):
    "On a telephone, without scrolling: what was tried, lost, the best, how sure, why it stopped"
    opened(browser, page, 420, 'light')
    tops = browser.execute_script('return Object.fromEntries([...document.querySelectorAll("td.l")]'
        '.map(e => [e.textContent, e.getBoundingClientRect().bottom]))')
    for label in ('tried', 'lost to', 'best', 'what did it', 'how sure', 'stopped', 'why',
            'what to do'):
        assert tops[label] < 900, (label, tops)
    text = browser.find_element('css selector', 'body').text
    assert 'kWh' in text and '612 W' in text and 'oom (ran out of memory)' in text

def test_a_wide_table_scrolls_and_its_numbers_stay(browser, page):
    "A telephone scrolls the table of keeps by itself, and the numbers stay"
    opened(browser, page, 360, 'light')
    wide = browser.execute_script('return [...document.querySelectorAll(".wide")].find(w => '
        'w.scrollWidth > w.clientWidth + 150 && w.querySelector("th").textContent === "n")')
    assert wide and 'what it tried' in wide.text
    browser.execute_script('arguments[0].scrollIntoView({block: "center"})', wide)
    head = 'return [...arguments[0].querySelectorAll("th")].map(e => [e.textContent, ' \
        'e.getBoundingClientRect().left])'
    before = dict(browser.execute_script(head, wide))
    browser.execute_script('arguments[0].scrollLeft = 150', wide)
    after = dict(browser.execute_script(head, wide))
    assert before['n'] == after['n'] and before['commit'] == after['commit'] + 150

@pytest.mark.parametrize('theme', ['light', 'dark'])
def test_the_markdown_shows_its_pictures(browser, report, theme):
    "As GitHub shows it: in its folder all pictures load, those of the theme"
    from nbconvert.filters import markdown2html
    text = (report/'report.md').read_text()
    html = report/'as-github.html'
    html.write_text('<!doctype html><meta charset="utf-8"><title>x</title>' + markdown2html(text))
    opened(browser, html, 1000, theme)
    found = browser.execute_script('return [...document.images].map(i => [i.naturalWidth, '
        'i.currentSrc.split("/").pop(), i.alt])')
    html.unlink()
    names = ['1-staircase', '3-seconds', '4-lanes']
    assert [o[1] for o in found] == [n + '-dark'*(theme == 'dark') + '.png' for n in names]
    assert all(o[0] > 500 and o[2] for o in found), found
    assert [a for a in asked_for(browser) if not a.startswith('file:')] == []
    files = {f.name for f in report.iterdir()} - {'report.html', 'report.md'}
    assert files == {f'{n}{k}.png' for n in names for k in ('', '-dark')} == set(
        re.findall(r'[\w-]+\.png', text))

# what is missing of a page on paper: boxes beyond its edge, boxes that scroll, parts that are folded
OFF_PAPER = '''
const W = document.documentElement.clientWidth, bad = [];
const say = (e, why) => { const r = e.getBoundingClientRect(); bad.push(`${why}: ${e.tagName}.`
  + `${e.className} ${Math.round(r.left)}..${Math.round(r.right)} "${e.textContent.trim().slice(0, 40)}"`); };
for (const e of document.body.querySelectorAll('*')) {
  const r = e.getBoundingClientRect(), s = getComputedStyle(e);
  const other = e.closest('.on-light, .on-dark');
  if (e.tagName === 'STYLE' || e.tagName === 'SOURCE' || (other && !other.offsetWidth)) continue;
  if (e.tagName === 'TR' && e.textContent.trim() && !(r.height > 5)) say(e, 'folded');
  if (e.closest('details') && !e.checkVisibility({contentVisibilityAuto: true})) say(e, 'not shown');
  if (r.left < -1 || r.right > W + 1) say(e, 'beyond the paper');
  if (['auto', 'scroll', 'hidden'].includes(s.overflowX) && e.scrollWidth > e.clientWidth + 1)
    say(e, 'cut');
  const t = document.createRange();
  for (const n of e.childNodes) if (n.nodeType === 3 && n.textContent.trim()) {
    t.selectNodeContents(n);
    for (const q of t.getClientRects()) if (q.right > W + 1) say(e, 'text beyond the paper');
  }
}
return bad;'''

@pytest.mark.parametrize('theme', ['light', 'dark'])
def test_on_paper_nothing_is_cut(browser, page, theme):
    "Printed, every column and every folded row is there"
    import base64
    opened(browser, page, 700, theme)
    browser.execute_script('document.querySelectorAll("details").forEach(e => e.open = false)')
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(media='print',
        features=[dict(name='prefers-color-scheme', value=theme)]))
    bad = browser.execute_script(OFF_PAPER)
    shot(browser, f'paper-{theme}', 700)
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(media='',
        features=[dict(name='prefers-color-scheme', value=theme)]))
    pdf = browser.execute_cdp_cmd('Page.printToPDF', dict(paperWidth=8.27, paperHeight=11.69,
        printBackground=theme == 'light'))
    SHOTS.mkdir(parents=True, exist_ok=True)
    (SHOTS/f"report-{theme}.pdf").write_bytes(base64.b64decode(pdf["data"]))
    assert not bad, '\n'.join(bad)
