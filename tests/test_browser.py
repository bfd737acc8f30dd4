"""What a person sees, in a real browser: headless Chromium opens the dashboard over a real session,
and the report."""
import json, os, random, re, shutil, signal, socket, subprocess, tempfile, time, urllib.request
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
import pytest
import lab
from autoresearch.contract import install_line
from autoresearch.ledger import Ledger, Row
from test_dashboard import lanes_of, status_of

FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--window-size=1320,1000']
SHOTS = lab.ROOT/'runs'/'screenshots'
# as long as it takes on a busy machine, no longer than it takes
until = partial(lab.until, most=.02)

EVIL = '<img src=x onerror="window.pwned=1"> $x^2$ <b>bold</b>'

def skip(reason):
    print(f'the browser tests are skipped: {reason}')
    pytest.skip(reason)

def chromium():
    "Paths of Chromium and its driver, which `make test` installs where it can"
    found = shutil.which('chromium'), shutil.which('chromedriver')
    if not all(found): skip('no chromium and chromedriver here: sudo make browser installs them')
    return found

@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    if find_spec('selenium') is None: skip(f'selenium is not installed: {install_line("dev")}')
    binary,driver = chromium()
    from selenium import webdriver
    o = webdriver.ChromeOptions()
    for f in [*FLAGS, f'--user-data-dir={tmp_path_factory.mktemp("chromium")}']: o.add_argument(f)
    o.binary_location = binary
    o.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
    d = webdriver.Chrome(options=o, service=webdriver.ChromeService(driver))
    yield d
    d.quit()

def change(root, **constants):
    "Set constants in the canvas"
    f = root/'canvas.ipynb'
    text = f.read_text()
    for k,v in constants.items():
        text,n = re.subn(rf'{k} = \S+', f'{k} = {v}', text, count=1)
        assert n == 1
    f.write_text(text)

MACHINE = dict(gpu='NVIDIA H100 80GB HBM3', gpus=1, machine='ant', driver='575.57', cuda='12.9',
    torch='2.9.1', cpu='Xeon Platinum 8480C', cpus=26, sm_mhz=1980, power_w=700)

def progress_of(rng, points=120):
    "A progress.json as a canvas writes it: loss, gradient norm, schedule with its names"
    end = rng.uniform(2.9, 3.2)
    rates = lambda s: [.04*min(1, 2-s/points), .6*min(1, 2-s/points), .95, .2*(1-s/points), 2**19]
    curve = [[8*s, 2.5*s, end+6/(s/4+1)+rng.gauss(0, .04), s/points, rates(s), 1+3/s]
        for s in range(1, points+1)]
    return dict(percent=100., loss=curve[-1][2], curve=curve,
        columns=['step', 'seconds', 'loss', 'fraction', 'schedule', 'grad_norm'],
        schedule_names=['matrices', 'embedding', 'momentum', 'weight decay', 'tokens a step'])

def usage_of(rng, rows=300):
    "A usage.json as the runner writes it beside a run on a GPU"
    columns = 'seconds cores others memory gpu gpu_gb watts celsius sm_mhz'.split()
    def row(t):
        busy = .97 if 30 < t < 280 else .1
        return [t, 1.1+rng.random()/5, .2, .31, busy, 44*busy, 650*busy, 35+t/12, 1755]
    return dict(columns=columns, rows=[row(t) for t in range(1, rows+1)])

def ran(root, row, notes={}, **more):
    "A row and the notes that vouch for it; `more` are other files of the run"
    runs = root/'runs'/lab.TAG
    n = 1 + max(int(d.name.split('-')[0]) for d in runs.glob('[0-9]*-*'))
    folder = runs/f'{n:03d}-{row.commit}'
    folder.mkdir()
    for name,o in more.items(): (folder/f'{name}.json').write_text(json.dumps(o))
    (folder/'experiment.json').write_text(json.dumps(dict(dir=folder.name, commit=row.commit,
        status=row.status, value=row.value, machine=MACHINE, profile='polynomial', seed=7, **notes)))
    Ledger(root/'results.tsv', 'rmse').append(row)

@pytest.fixture(scope='module')
def root(tmp_path_factory):
    "Some real experiments, and then two hundred that are made up, notes and rows"
    root = lab.example(tmp_path_factory.mktemp('browser')/'repo')
    lab.edit(root, 'Progress(RUN_DIR)', 'Progress(RUN_DIR, every=.01)')
    lab.commit(root, 'a finer curve')
    lab.setup(root)
    lab.run(root, 'baseline')
    for what,c in [('a cubic', dict(DEGREE=3)), (EVIL, dict(RATE=.7)),
            ('half the steps', dict(STEPS=150)), ('as many steps as fit', dict(STEPS=600))]:
        change(root, **c)
        lab.run(root, what)
    lab.edit(root, 'budget.step()', 'budget.stepp()')
    lab.run(root, 'no such method')
    lab.ar(root, 'ar-drop')
    rng,led = random.Random(0), Ledger(root/'results.tsv', 'rmse')
    best = led.frontier().best.value
    for i in range(200):
        status = rng.choices(['discard', 'crash', 'keep'], [80, 8, 6])[0]
        value = (best*(1+abs(rng.gauss(.5, .6))) if status == 'discard'
            else best*rng.uniform(.93, .999))
        if status == 'keep': best = value
        files = dict(progress=progress_of(rng), usage=usage_of(rng)) if i > 150 else {}
        ran(root, Row(f'{rng.getrandbits(28):07x}', value, rng.uniform(1, 9), status,
            f'made up {i}: {EVIL if i%7 == 0 else "an idea of some length, as agents have"}'),
            dict(by='ann'), **files)
    below(root)
    return root

def below(root):
    """What not every session has: an expedition that came to nothing, audited keeps, a swarm that
    has ended, and of the run that is looked at a curve and what it used"""
    led = Ledger(root/'results.tsv', 'rmse')
    for i in range(3):
        value = led.frontier().best.value*1.5 + .01*i
        ran(root, Row(f'{i+1}e{i}ed11', value, 1., 'discard', f'a step of an expedition {i}'),
            {'class': 'expedition', 'expedition': 1})
    folder = root/'runs'/lab.TAG
    for i,s in enumerate(led.frontier().steps):
        audit = dict(number=s.n, commit=s.row.commit, value=1.2-.9*(led.frontier().baseline.value
            - s.row.value), error=.001)
        (folder/'audit').mkdir(exist_ok=True)
        (folder/f'audit/{s.n:03d}.json').write_text(json.dumps(audit))
    (folder/'swarm').mkdir()
    status_of(root, state='stopped')
    lanes_of(root, 12)
    cubic = next(folder.glob('002-*'))
    (cubic/'progress.json').write_text(json.dumps(progress_of(random.Random(2))))
    (cubic/'usage.json').write_text(json.dumps(usage_of(random.Random(2))))


@contextmanager
def serving(root):
    "`ar-dashboard` over a checkout: address, process, and the address with its token"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    with open(root.parent/'dashboard.log', 'w') as log:
        proc = subprocess.Popen([lab.BIN/'ar-dashboard', '--port', str(port)], cwd=root,
            env=lab.environ(), stdout=log, stderr=log, start_new_session=True)
    try:
        until(lambda: proc.poll() is not None
            or 'http://localhost' in Path(log.name).read_text() and answers(port))
        assert proc.poll() is None, Path(log.name).read_text()
        said = re.search(r'http://localhost:\d+/\?token=\w+', Path(log.name).read_text())[0]
        yield f'http://localhost:{port}', proc.pid, said
    finally:
        proc.send_signal(signal.SIGINT)
        proc.wait(lab.PATIENCE)
    import psutil
    left = [p for p in psutil.process_iter(['cmdline']) if str(port) in (p.info['cmdline'] or [])]
    assert proc.returncode == 0 and not left, (proc.returncode, left, Path(log.name).read_text())

@pytest.fixture(scope='module')
def server(root):
    with serving(root) as s: yield s

def kernels(pid):
    "Kernels of the dashboard's pages"
    import psutil
    return [p for p in psutil.process_iter(['ppid', 'cmdline'])
        if p.info['ppid'] == pid and 'ipykernel_launcher' in (p.info['cmdline'] or [])]

def answers(port):
    with socket.socket() as s: return s.connect_ex(('127.0.0.1', port)) == 0

def shot(d, name):
    "A picture of the whole page"
    SHOTS.mkdir(parents=True, exist_ok=True)
    height = d.execute_script('return Math.max(document.documentElement.scrollHeight, '
        '...[...document.querySelectorAll(".ar-page")].map(e => e.scrollHeight + 30))')
    d.set_window_size(1320, min(6000, height+90))
    d.save_screenshot(str(SHOTS/f'{name}.png'))
    print(f'screenshot: {os.path.relpath(SHOTS/name)}.png')

def shot_of(page, css, name):
    "A picture of one card"
    page.one(css).screenshot(str(SHOTS/f'{name}.png'))

class Page:
    "The dashboard through the eyes and hands of a person"
    # by colour, as a person tells them
    MARK = dict(discard='fill: rgb(90, 99, 108)', crash='stroke: rgb(213, 94, 0)',
        keep='fill: rgb(0, 158, 115)', chosen='stroke: rgb(230, 159, 0)')
    def __init__(self, d): self.d = d
    def all(self, css): return self.d.find_elements('css selector', css)
    def one(self, css): return until(lambda: self.all(css))[0]
    def js(self, code, *args): return self.d.execute_script(code, *args)
    def text(self, css):
        return self.js('const e = document.querySelector(arguments[0]); '
            'return e ? e.innerText ?? e.textContent : ""', css)
    def css(self, name): return f'.ar-frontier .scatterlayer path.point[style*="{self.MARK[name]}"]'
    def points(self, name):
        return self.js('return document.querySelectorAll(arguments[0]).length', self.css(name))
    def rows(self):
        return self.js('return [...document.querySelectorAll(".ar-experiments .ar-table tbody tr")]'
            '.map(r => [...r.cells].map(c => c.innerText))')
    def act(self, find, do):
        "Do something with what `find` finds, once more if it was drawn anew in between"
        from selenium.common.exceptions import StaleElementReferenceException
        def once():
            try:
                e = find()
                self.js('arguments[0].scrollIntoView({block: "center"})', e)
                do(e)
                return True
            except StaleElementReferenceException: return False
        until(once)
    def click(self, css): self.act(lambda: self.one(css), lambda e: e.click())
    def to_point(self, name, i, click=False):
        "The mouse over the i-th point of a kind"
        from selenium.webdriver.common.action_chains import ActionChains
        def move(e):
            a = ActionChains(self.d).move_to_element_with_offset(e, 3, 3).move_to_element(e)
            (a.click() if click else a).perform()
        self.act(lambda: until(lambda: self.all(self.css(name))[i:])[0], move)

def asked_for(d):
    "Addresses of all requests since the last call"
    sent = [json.loads(o['message'])['message'] for o in d.get_log('performance')]
    return [o['params']['request']['url'] for o in sent
        if o['method'] == 'Network.requestWillBeSent']

def leaving(d):
    "Requests that would leave this machine"
    return [a for a in asked_for(d) if not re.match(
        r'(https?|ws)://(localhost|127\.0\.0\.1)[:/]|data:|blob:|about:|file:|chrome', a)]

# what of a page is not whole in the window: boxes beyond its edges, text cut by a box around it;
# what scrolls by itself is whole if its own box is
CUT = '''
const W = innerWidth, bad = [], name = e => e.tagName + '.' + (e.className.baseVal ?? e.className);
const style = e => getComputedStyle(e), shown = r => r.width > 0 && r.height > 0;
const say = (e, r, why) => bad.push(`${why}: ${name(e)} ${Math.round(r.left)}..${Math.round(r.right)} ${Math.round(r.top)}..${Math.round(r.bottom)}`
  + ` "${(e.textContent || '').slice(0, 40)}"`);
const up = e => { const all = []; while ((e = e.parentElement)) all.push(e); return all; };
const scrolls = e => ['auto', 'scroll'].includes(style(e).overflowX);
const root = document.querySelector('.ar-page') || document.body;
for (const e of root.querySelectorAll('*')) {
  if (e.closest('svg') || ['OPTION', 'SCRIPT', 'STYLE'].includes(e.tagName)) continue;
  const r = e.getBoundingClientRect(), over = up(e);
  if (!shown(r) || style(e).visibility === 'hidden' || over.some(scrolls)) continue;
  if (r.left < -1 || r.right > W + 1) say(e, r, 'beyond the window');
  if (['BUTTON', 'SELECT'].includes(e.tagName) && e.scrollWidth > e.clientWidth + 1)
    say(e, r, 'text cut');
  const clips = over.filter(o => style(o).overflowX !== 'visible').map(o => o.getBoundingClientRect());
  for (const t of e.childNodes) {
    if (t.nodeType !== 3 || !t.textContent.trim() || e.tagName === 'SELECT') continue;
    const range = document.createRange();
    range.selectNodeContents(t);
    const own = scrolls(e) ? [] : style(e).overflowX === 'visible' ? [] : [r];
    for (const q of range.getClientRects())
      if (!scrolls(e) && [...clips, ...own].some(c => q.left < c.left - 1 || q.right > c.right + 1))
        say(e, q, 'text cut');
  }
}
for (const t of root.querySelectorAll('.ar-pic svg text')) {
  const r = t.getBoundingClientRect(), c = t.closest('.ar-pic').getBoundingClientRect();
  if (shown(r) && !t.closest('.hoverlayer') && (r.left < c.left - 1 || r.right > c.right + 1
      || r.top < c.top - 1 || r.bottom > c.bottom + 1)) say(t, r, 'beyond its picture');
}
return bad;'''

# pairs of colours with less contrast than 4.5, of every text that is shown
PALE = '''
const parse = s => { const m = (s.match(/[\\d.]+/g) || []).map(Number);
  return s.startsWith('color(srgb') ? [m[0]*255, m[1]*255, m[2]*255, m[3] ?? 1]
    : [m[0], m[1], m[2], m[3] ?? 1]; };
const over = (a, b) => [0, 1, 2].map(i => a[i]*a[3] + b[i]*(1 - a[3])).concat(1);
const lum = c => [0, 1, 2].map(i => c[i]/255).map(v => v <= .04045 ? v/12.92
  : ((v + .055)/1.055)**2.4).reduce((s, v, i) => s + v*[.2126, .7152, .0722][i], 0);
const ground = e => { const all = []; for (let o = e; o; o = o.parentElement)
    all.push(parse(getComputedStyle(o).backgroundColor));
  return all.reverse().reduce((b, c) => over(c, b), [255, 255, 255, 1]); };
const faint = e => { let v = 1; for (let o = e; o; o = o.parentElement)
    v *= Number(getComputedStyle(o).opacity); return v; };
const bad = {};
const look = (e, colour, text) => {
  const b = ground(e), f = parse(colour), c = over([f[0], f[1], f[2], f[3]*faint(e)], b);
  const [lo, hi] = [lum(c), lum(b)].sort((x, y) => x - y), ratio = (hi + .05)/(lo + .05);
  if (ratio < 4.5) bad[`${e.tagName}.${e.className.baseVal ?? e.className} ${colour} on `
    + b.slice(0, 3).map(Math.round)] = `${ratio.toFixed(2)} "${text.trim().slice(0, 30)}"`;
};
for (const e of document.querySelectorAll('.ar-page *')) {
  const r = e.getBoundingClientRect();
  if (!r.width || ['STYLE', 'SCRIPT', 'OPTION'].includes(e.tagName)) continue;
  const own = [...e.childNodes].filter(t => t.nodeType === 3).map(t => t.textContent).join('');
  const svg = e.closest('svg'), s = getComputedStyle(e);
  if (svg && e.tagName !== 'text' && e.tagName !== 'tspan') continue;
  const text = own || e.placeholder || e.value || (e.tagName === 'SELECT' ? 'select' : '');
  if (!String(text).trim() || e.closest('.noUi-target')) continue;
  look(e, svg ? s.fill : s.color, String(text));
  if (e.placeholder) look(e, getComputedStyle(e, '::placeholder').color, e.placeholder);
}
return bad;'''

def errors(d): return [l for l in d.get_log('browser') if l['level'] == 'SEVERE']

def opened(d, url): # with its token, or without where the browser has the cookie
    # what a page says of its own end, its kernel gone, is no error of the next one
    d.get('about:blank')
    d.get_log('browser')
    d.get(url)
    page = Page(d)
    until(lambda: page.points('keep'))
    return page

WIDTHS = 360, 420, 768, 1300, 2000

def widened(d, page, width, height=900):
    "A window of this width, once the pictures have followed"
    d.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=width, height=height,
        deviceScaleFactor=1, mobile=False))
    fits = ('return [...document.querySelectorAll(".ar-pic")].filter(e => e.clientWidth).every(e => {'
        ' const s = e.querySelector("svg.main-svg");'
        ' return s && Math.abs(s.getBoundingClientRect().width - e.clientWidth) < 3; })')
    until(lambda: page.js(fits))

def themed(d, page, theme):
    "Light or dark, once the pictures have followed"
    d.execute_cdp_cmd('Emulation.setEmulatedMedia',
        dict(features=[dict(name='prefers-color-scheme', value=theme)]))
    want = dict(light='rgb(28, 33, 38)', dark='rgb(221, 221, 221)')[theme]
    until(lambda: page.js('const ts = [...document.querySelectorAll(".ar-pic svg .xtick text")];'
        ' return ts.length && ts.every(t => getComputedStyle(t).fill === arguments[0])', want))

def whole_shot(d, page, width, name):
    "A picture of all of the page, at this width"
    height = page.js('return document.querySelector(".ar-page").scrollHeight + 40')
    widened(d, page, width, min(8000, height))
    SHOTS.mkdir(parents=True, exist_ok=True)
    d.save_screenshot(str(SHOTS/f'{name}.png'))

def test_dashboard(browser, root, server):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys
    url,pid,said = server
    led = Ledger(root/'results.tsv', 'rmse')
    rows = led.read()[0]
    n = {s: sum(r.status == s for r in rows) for s in ('keep', 'discard', 'crash')}
    n['discard'] -= 3 # the steps of an expedition have marks of their own
    browser.get(url)
    assert browser.find_elements('css selector', 'form #password_input') and not kernels(pid)
    page = opened(browser, said)
    assert len(kernels(pid)) == 1

    # the frontier is drawn, every row of it
    until(lambda: [page.points(s) for s in n] == list(n.values()))
    assert (page.text('.ar-tiles').startswith(f'{led.frontier().best.value:.6f}')
        and page.text('.ar-error') == '')
    until(lambda: page.js(
        'return document.querySelectorAll(".ar-frontier .annotation").length') > 3)

    # no label lies over another: each is a slanted line of text, so their distance is measured
    # across the slant
    boxes = page.js('''return [...document.querySelectorAll('.ar-frontier .annotation-text-g')]'''
        '''.map(g => { const r = g.getBoundingClientRect(); return [r.left, r.bottom]; })''')
    across = sorted(x*.5 + y*3**.5/2 for x,y in boxes)
    assert len(across) > 3 and min(b-a for a,b in zip(across, across[1:])) > 11, across

    # the mouse over it says what it was, as text
    kept = [i for i,r in enumerate(rows, 1) if r.status == 'keep']
    def hovers():
        page.to_point('keep', 1)
        return 'a cubic' in (said := page.text('.ar-frontier .hoverlayer')) and 'gain' in said
    until(hovers)
    shot(browser, 'dashboard')
    shot_of(page, '.ar-frontier', 'frontier')

    # a zoom, and a double-click that ends it
    seen = lambda: page.js('return document.querySelector(".ar-frontier .js-plotly-plot")'
        '.layout.xaxis.range.map(Number)')
    whole,pane = seen(), lambda: page.one('.ar-frontier .nsewdrag')
    page.act(pane, lambda e: (ActionChains(browser).move_to_element_with_offset(e, -300, -120)
        .click_and_hold().move_by_offset(150, 60).move_by_offset(150, 60).release().perform()))
    until(lambda: seen()[1]-seen()[0] < .5*(whole[1]-whole[0]))
    page.act(pane, lambda e: (ActionChains(browser).move_to_element_with_offset(e,
        -int(.45*e.size['width']), -150).double_click().perform()))
    until(lambda: seen() == whole)

    # a click selects an experiment and shows its diff, its curve, its block, its log
    until(hovers) # a point is clicked where the picture knows that the mouse is
    page.to_point('keep', 1, click=True)
    until(lambda: page.text('.ar-one h2').startswith(f'#{kept[1]} a cubic'))
    until(lambda: '+DEGREE = 3' in page.text('.ar-diff .ar-add')
        and '-DEGREE = 1' in page.text('.ar-diff .ar-del'))
    one = page.text('.ar-one')
    assert 'rmse:' in one and 'not instructions' in one and page.points('chosen') == 1
    until(lambda: page.js(
        'return document.querySelectorAll(".ar-one .scatterlayer path.point").length') > 1)
    shot(browser, 'dashboard-experiment')

    # the filter works
    page.click('.ar-show-discard')
    until(lambda: page.points('discard') == 0 and page.points('keep') == n['keep'])
    page.click('.ar-show-discard')
    until(lambda: page.points('discard') == n['discard'])

    # the range cuts off the last experiments, and the staircase goes on to its end
    page.act(lambda: page.one('.ar-range .noUi-handle-upper'),
        lambda e: e.send_keys(Keys.PAGE_DOWN))
    until(lambda: page.points('discard') < n['discard'])
    page.act(lambda: page.one('.ar-range .noUi-handle-upper'), lambda e: e.send_keys(Keys.END))
    until(lambda: page.points('discard') == n['discard'])

    # a row appended meanwhile appears
    # none while the page stands behind another tab, then it is there at once
    page.js('Object.defineProperty(document, "hidden", {value: true, configurable: true})')
    time.sleep(4)
    ran(root, Row('c0ffee0', led.frontier().best.value*.9, 1., 'keep', f'appended {EVIL}'))
    time.sleep(7)
    assert page.points('keep') == n['keep'], 'a hidden page asks for nothing'
    page.js('delete document.hidden')
    until(lambda: page.points('keep') == n['keep']+1)
    until(lambda: page.rows()[0][-1] == f'appended {EVIL}')
    assert page.text('.ar-one h2').startswith(f'#{kept[1]} a cubic'), 'a selection stays'

    # one that nobody ran is marked, and is not the best
    best = led.frontier().best.value
    led.append(Row('abcdef0', best/2, 1., 'keep', 'by hand'))
    until(lambda: 'that no run vouches for (1)' in page.text('.ar-frontier'))
    assert page.text('.ar-tiles').startswith(f'{best:.6f}') and page.points('keep') == n['keep']+1

    # the table: search, the top hits, a row selects
    page.one('.ar-tools input').send_keys('half the')
    until(lambda: [r[-1] for r in page.rows()] == ['half the steps'])
    page.click('.ar-experiments .ar-table tbody tr')
    until(lambda: 'half the steps' in page.text('.ar-one h2')
        and '+STEPS = 150' in page.text('.ar-diff .ar-add'))
    page.click('.ar-tools button')
    gains = lambda: [float(r[4]) for r in page.rows() if r[4]]
    until(lambda: len(gains()) > 9 and gains() == sorted(gains(), reverse=True))

    # what an agent wrote stayed text, nothing was asked of another machine, no error
    assert page.js('return window.pwned === undefined && !document.querySelector(".ar-page img")')
    asked = page.js('return performance.getEntriesByType("resource").map(e => e.name)')
    assert not [a for a in asked if not a.startswith((url, 'data:', 'blob:'))]
    assert not (bad := errors(browser)), bad

def test_every_width_and_both_themes(browser, root, server):
    """From a telephone to a wide screen nothing is cut, in light and dark every text has contrast,
    and no request leaves this machine"""
    from selenium.webdriver.common.action_chains import ActionChains
    page = opened(browser, server[2])
    asked_for(browser)
    box = lambda css: page.js('const r = document.querySelector(arguments[0]).getBoundingClientRect();'
        ' return [r.left, r.top + scrollY, r.right, r.bottom + scrollY]', css)
    page.one('.ar-tools input').send_keys('a cubic')
    until(lambda: len(page.rows()) == 1)
    page.click('.ar-experiments .ar-table tbody tr') # one with a diff, a curve, a block, a log
    until(lambda: '+DEGREE = 3' in page.text('.ar-diff .ar-add'))
    page.js('const i = document.querySelector(".ar-tools input");'
        ' i.value = ""; i.dispatchEvent(new Event("input"))')
    until(lambda: len(page.rows()) == 25)
    # the curve is whole: every point of it between the axes
    inside = ('const box = document.querySelector(".ar-one .nsewdrag").getBoundingClientRect();'
        ' const ps = [...document.querySelectorAll(".ar-one .scatterlayer path.point")];'
        ' return ps.length > 1 && ps.every(p => { const r = p.getBoundingClientRect();'
        ' return r.top >= box.top-4 && r.bottom <= box.bottom+4; })')
    until(lambda: page.js(inside))
    # what not every session has is there, and so held to the same
    for css in ('.ar-lanes', '.ar-one .ar-live', '.ar-laid', '.ar-frontier .ar-audit',
            '.ar-frontier .ar-expedition', '.ar-experiments .ar-table td.ar-num'):
        assert page.js('return !!document.querySelector(arguments[0])', css), css
    assert {'audit', 'gap'} < {*heads(page)}
    for width in WIDTHS:
        widened(browser, page, width)
        whole_shot(browser, page, width, f'dashboard-{width}')
        widened(browser, page, width)
        assert page.js('return document.documentElement.scrollWidth') <= width
        with suppress(AssertionError): # labels follow the picture with a message of their own
            until(lambda: not page.js(CUT), seconds=15)
        assert not (cut := page.js(CUT)), (width, cut)
        night,pic,now = map(box, ('.ar-night', '.ar-pic-frontier', '.ar-now'))
        head = heads(page)
        if width < 700: # one column: what happened, then the picture as wide as the window
            assert night[3] <= pic[1] and pic[3] <= now[1] and night[0] == now[0], width
            assert pic[2]-pic[0] > width-70 and head[1] == 'description', (width, pic)
        if width >= 1300: assert head[-1] == 'description'
        if width >= 1300: # the staircase is seen first, what runs now stands beside it
            assert pic[3] < 900 and pic[0] < now[0] and now[1] < pic[3] and night[1] < pic[3], width
    for theme in ('light', 'dark'):
        widened(browser, page, 1300)
        themed(browser, page, theme)
        page.click('.ar-show-crash') # off
        assert not (pale := page.js(PALE)), (theme, pale)
        for css in ('.ar-curves .jupyter-button', '.ar-curves select', '.ar-laid tbody tr',
                '.ar-tick', '.ar-to-curves', '.ar-show-keep', '.ar-show-crash', '.ar-experiments .ar-table tbody tr:nth-child(3)',
                '.ar-tools button', '.ar-go'):
            page.act(lambda: page.one(css), lambda e: ActionChains(browser).move_to_element(e).perform())
            assert not (pale := page.js(PALE)), (theme, css, pale)
        page.click('.ar-show-crash')
        page.one('.ar-tools input').send_keys('no such words')
        until(lambda: "has 'no such words' in it" in page.text('.ar-experiments .ar-table'))
        assert not (pale := page.js(PALE)), (theme, pale)
        page.js('const i = document.querySelector(".ar-tools input");'
            ' i.value = ""; i.dispatchEvent(new Event("input"))')
        until(lambda: len(page.rows()) == 25)
        if theme == 'dark':
            for width in WIDTHS:
                widened(browser, page, width)
                whole_shot(browser, page, width, f'dashboard-{width}-dark')
    buttons = page.js('return [...document.querySelectorAll(".modebar-btn, .ar-page button")]'
        '.map(e => e.dataset.title || e.title || e.textContent)')
    assert buttons and not [b for b in buttons if re.search('(?i)share|cloud|studio|upload|edit', b)]
    refused = page.js("""return new Promise(done => {
        document.addEventListener('securitypolicyviolation', e => done(e.blockedURI));
        fetch('http://example.org/').catch(() => setTimeout(done, 2000)); })""")
    assert refused and 'example.org' in refused, 'the policy, not the network, stands in the way'
    browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(features=[]))
    left = [a for a in leaving(browser) if 'example.org' not in a]
    assert not left, left
    browser.get('about:blank')

@pytest.fixture
def night(tmp_path_factory):
    "A session that came to its limit: a baseline, a keep, a discard, a crash; curves, usage, machine"
    root = lab.example(tmp_path_factory.mktemp('night')/'repo')
    lab.edit(root, 'Progress(RUN_DIR)', 'Progress(RUN_DIR, every=.01)')
    lab.commit(root, 'a finer curve')
    lab.ar(root, 'ar-setup', lab.TAG, '--seed', '42', '--max-crashes', '1')
    lab.run(root, 'baseline')
    for what,c in [('a cubic', dict(DEGREE=3)), ('half the steps', dict(STEPS=150))]:
        change(root, **c)
        lab.run(root, what)
    lab.edit(root, 'budget.step()', 'budget.stepp()')
    lab.run(root, 'no such method')
    lab.ar(root, 'ar-drop', ok=False)
    for i,d in enumerate(sorted((root/'runs'/lab.TAG).glob('[0-9]*-*'))[:3]):
        (d/'progress.json').write_text(json.dumps(progress_of(random.Random(i))))
        (d/'usage.json').write_text(json.dumps(usage_of(random.Random(i))))
        notes = json.loads((d/'experiment.json').read_text())
        (d/'experiment.json').write_text(json.dumps(dict(notes, machine=MACHINE)))
    return root

class Newcomer:
    "Does tasks on a page as somebody who sees it for the first time, and counts clicks"
    def __init__(self, page): self.page,self.done,self.clicks,self.began = page, [], 0, 0.
    def click(self, css):
        self.page.click(css)
        self.clicks += 1
    def row(self, words, part=''):
        "The table's row that has these words, or a part of it, is clicked"
        find = ("return [...document.querySelectorAll('.ar-experiments .ar-table tbody tr')]"
            ".find(r => r.innerText.includes(arguments[0])).querySelector(arguments[1])")
        self.page.act(lambda: until(lambda: self.page.js(find, words, part or 'td.ar-long')),
            lambda e: e.click())
        self.clicks += 1
    def task(self, what, do, seen):
        "Do it, and wait until what was asked is on the page, in the window"
        self.clicks,self.began = 0, time.monotonic()
        do()
        until(seen, seconds=60)
        self.done.append((what, self.clicks, time.monotonic()-self.began))
        assert self.clicks <= 3, (what, self.clicks)
    def read(self, css, *words):
        "Is there an element that says all of it, with a size, not cut by its card?"
        return lambda: any(all(w in t for w in words) for t in self.page.js(
            "return [...document.querySelectorAll(arguments[0])].filter(e => e.clientHeight"
            " && e.clientWidth).map(e => e.innerText)", css))
    def table(self):
        lines = [f'| {what} | {clicks} | {took:.1f} |' for what,clicks,took in self.done]
        return '\n'.join(['| task | clicks | seconds |', '| --- | ---: | ---: |', *lines])

@pytest.mark.parametrize('width', [1300, 360])
def test_ten_tasks_of_a_newcomer(browser, night, width):
    "Each takes three clicks at most, on a wide screen and on a telephone"
    with serving(night) as (url, pid, said):
        page = opened(browser, said)
        widened(browser, page, width)
        n = Newcomer(page)
        n.task("the best run's diff", lambda: None, n.read('.ar-one .ar-diff', '+DEGREE = 3'))
        n.task('why did it stop', lambda: None, n.read('.ar-night', 'stopped', 'crash'))
        n.task('how sure is the best', lambda: None, n.read('.ar-night', 'best', 'how sure'))
        n.task("read a crash's reason", lambda: n.row('no such method'),
            n.read('.ar-one .ar-facts', 'AttributeError'))
        n.task('open an executed notebook', lambda: (n.row('half the steps'),
            until(n.read('.ar-one h2', 'half the steps')), n.click('a.ar-link')),
            lambda: len(browser.window_handles) == 2)
        back(browser, 'STEPS = 150')
        n.task('which machine, how hot', lambda: n.row('a cubic'),
            n.read('.ar-one', '#2 a cubic', 'NVIDIA H100', 'GPU temperature', 'most 60 °C'))
        n.task('sort by value', lambda: n.click('.ar-experiments th:nth-child(%d)'
            % (1+heads(page).index('value'))), lambda: 'value ↑' in heads(page))
        n.task('an idea by a word', lambda: (n.click('.ar-tools input'),
            page.one('.ar-tools input').send_keys('cubic')),
            lambda: len(page.rows()) == 1 and 'a cubic' in page.text('.ar-experiments .ar-table tbody'))
        emptied(page)
        n.task('compare two runs, curves and figures', lambda: (n.row('baseline', '.ar-tick input'),
            n.row('a cubic', '.ar-tick input'), n.click('.ar-to-curves')),
            lambda: in_window(page, '.ar-curves .ar-pic')
            and n.read('.ar-laid', '#1 baseline', '#2 a cubic')())
        # one by one: a table that is redrawn between the two may have the second ticked still
        page.js('document.querySelector(".ar-tick input:checked").click()')
        until(lambda: not page.text('.ar-curves .ar-diff'))
        page.js('document.querySelector(".ar-tick input:checked").click()')
        time.sleep(2)
        until(lambda: not page.all('.ar-tick input:checked'))
        n.task('what became of a constant', lambda: (n.row('baseline', '.ar-tick input'),
            n.row('a cubic', '.ar-tick input'), n.click('.ar-to-curves')),
            n.read('.ar-curves .ar-diff', '-DEGREE = 1', '+DEGREE = 3'))
        n.task("two runs' gradient norm", lambda: choose(n, '.ar-curves .ar-what select', 'gradient norm'),
            lambda: page.js('return document.querySelector(".ar-curves .ytitle").textContent')
            == 'gradient norm')
        change(night, RATE=.7)
        lab.edit(night, 'budget.step()\\n', 'budget.step(); time.sleep(.2)\\n')
        lab.ar(night, 'ar-setup', '--more', '--max-crashes', '5')
        lab.ar(night, 'ar-run', '-m', 'slowly', '--background')
        n.task('what runs now, how long yet', lambda: None,
            n.read('.ar-now', 'slowly', 'usual'))
        lab.ar(night, 'ar-stop', ok=False)
        lab.ar(night, 'ar-wait', ok=False)
        lab.ar(night, 'ar-drop', ok=False)
        print(f'\nat {width} px\n{n.table()}')
        # a run's notebook may say anything, and none of its scripts is run
        bad = [o for o in errors(browser) if '/executed/' not in o['message']]
        assert len(n.done) >= 10 and not bad, bad
        browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
        browser.get('about:blank')

def swipe(d, x, y):
    "A finger goes up from here"
    def touch(kind, *at): d.execute_cdp_cmd('Input.dispatchTouchEvent', dict(type=f'touch{kind}',
        touchPoints=[dict(x=x, y=v) for v in at]))
    touch('Start', y)
    for k in range(1, 21):
        touch('Move', y-12*k)
        time.sleep(.02)
    touch('End')

def test_a_swipe_scrolls_the_page(browser, night):
    "On a telephone a finger on a picture moves the page, not the picture's axes"
    with serving(night) as (url, pid, said):
        browser.execute_cdp_cmd('Emulation.setTouchEmulationEnabled', dict(enabled=True))
        page = opened(browser, said)
        browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=390, height=844,
            deviceScaleFactor=2, mobile=True))
        seen = lambda css: page.js('const p = document.querySelector(arguments[0] + " .js-plotly-plot");'
            ' return p && p.layout.dragmode === false'
            ' && JSON.stringify([p.layout.xaxis.range, p.layout.yaxis.range])', css)
        for css in ('.ar-pic-frontier', '.ar-pic-one', '.ar-pic-curves'):
            before = until(lambda: seen(css))
            def swiped(): # from where it stands once nothing moves any longer
                page.js('document.querySelector(arguments[0]).scrollIntoView({block: "center"})', css)
                time.sleep(1)
                x,y = page.js('const r = document.querySelector(arguments[0] + " .nsewdrag")'
                    '.getBoundingClientRect(); return [r.left+r.width/2, r.top+r.height/2]', css)
                swipe(browser, int(x), int(y))
                time.sleep(1)
                return page.js('return document.querySelector(arguments[0] + " .nsewdrag")'
                    '.getBoundingClientRect().top + arguments[1] < arguments[2]', css,
                    page.js('return document.querySelector(arguments[0] + " .nsewdrag")'
                    '.getBoundingClientRect().height/2', css), y-100)
            until(swiped, seconds=30)
            assert until(lambda: seen(css)) == before, css
        # whole words on the buttons and menus, and the value beside the description
        cut = page.js('return [...document.querySelectorAll(".ar-page button, .ar-page select")]'
            '.filter(e => e.clientWidth && e.tagName === "BUTTON" && e.scrollWidth > e.clientWidth+1)'
            '.map(e => e.textContent)')
        assert not cut and heads(page)[1:3] == ['description', 'value']
        ends = page.js('return [...document.querySelectorAll(".ar-experiments .ar-table tbody tr")]'
            '.map(r => r.cells[2].getBoundingClientRect().right)')
        assert max(ends) <= 390, 'the value is in sight without a scroll'
        # a tap on a mark opens its run, whose card comes in sight and has the focus
        baseline = page.css('keep')
        def tapped():
            page.js('document.querySelector(".ar-pic-frontier").scrollIntoView({block: "center"})')
            time.sleep(1)
            x,y = page.js('const r = document.querySelector(arguments[0]).getBoundingClientRect();'
                ' return [r.left+r.width/2, r.top+r.height/2]', baseline)
            for kind,at in (('Start', [dict(x=x, y=y)]), ('End', [])):
                browser.execute_cdp_cmd('Input.dispatchTouchEvent',
                    dict(type=f'touch{kind}', touchPoints=at))
            time.sleep(2)
            return page.text('.ar-one h2').startswith('#1 baseline')
        until(tapped, seconds=60)
        until(lambda: page.js('const r = document.querySelector(".ar-one").getBoundingClientRect();'
            ' return r.top > -5 && r.top < innerHeight/2'
            ' && document.activeElement.matches(".ar-one")'))
        # scrolled sideways a table keeps its descriptions in sight, and says that there is nothing
        seen = ('const r = document.querySelector(arguments[0]).getBoundingClientRect();'
            ' return r.left > -2 && r.right < innerWidth+2 && r.width > 50')
        scrolled = 'document.querySelector(".ar-experiments .ar-scroll").scrollLeft = 9999'
        page.js(scrolled)
        assert page.js('return document.querySelector(".ar-experiments .ar-scroll").scrollLeft') > 50
        assert page.js(seen, '.ar-experiments .ar-table tbody td.ar-long')
        page.js('document.querySelector(".ar-experiments .ar-scroll").scrollIntoView()')
        SHOTS.mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(SHOTS/'table-sideways.png'))
        page.one('.ar-tools input').send_keys('zebra')
        until(lambda: 'zebra' in page.text('.ar-experiments .ar-none'))
        page.js(scrolled)
        assert page.js(seen, '.ar-experiments .ar-none span')
        browser.execute_cdp_cmd('Emulation.setTouchEmulationEnabled', dict(enabled=False))
        browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
        browser.get('about:blank')

def heads(page):
    return page.js("return [...document.querySelectorAll('.ar-experiments .ar-table th')]"
        ".map(e => e.innerText)")

def emptied(page):
    page.js('const i = document.querySelector(".ar-tools input");'
        ' i.value = ""; i.dispatchEvent(new Event("input"))')
    until(lambda: len(page.rows()) > 1)

def in_window(page, css):
    return page.js('const r = document.querySelector(arguments[0]).getBoundingClientRect();'
        ' return r.height > 100 && r.top > -20 && r.top < innerHeight-100', css)

def choose(n, css, text):
    "One entry of a menu: a click that opens it, another on the entry"
    from selenium.webdriver.support.select import Select
    n.page.act(lambda: n.page.one(css), lambda e: Select(e).select_by_visible_text(text))
    n.clicks += 2

def back(d, words):
    "Close the second window once it shows these words"
    first,second = d.window_handles
    d.switch_to.window(second)
    until(lambda: words in d.find_element('css selector', 'body').text)
    d.close()
    d.switch_to.window(first)

@pytest.mark.slow
def test_dashboard_in_the_dark_and_by_hand(browser, root, server):
    "A short run by the sliders, the executed notebook, dark; a closed page leaves no kernel"
    url,pid,said = server
    token = said.partition('?')[2]
    before = (root/'results.tsv').read_bytes(), lab.git(root, 'for-each-ref')
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia',
        dict(features=[dict(name='prefers-color-scheme', value='dark')]))
    page = opened(browser, url) # the cookie of the visit before opens it
    until(lambda: page.js('return !!document.querySelector(".ar-dark")'))
    page.click('.ar-go button, button.ar-go')
    until(lambda: 'not an experiment' in page.text('.ar-said'))
    assert ((root/'results.tsv').read_bytes(), lab.git(root, 'for-each-ref')) == before
    until(lambda: 'rgb(29, 34, 38)' in page.js(
        'return getComputedStyle(document.querySelector(".ar-card")).backgroundColor'))
    shot(browser, 'dashboard-dark')
    tinker = '.ar-card:has(.ar-go)'
    shot_of(page, '.ar-frontier', 'frontier-dark')
    shot_of(page, tinker, 'tinker-dark')
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia',
        dict(features=[dict(name='prefers-color-scheme', value='light')]))
    until(lambda: page.js('return !document.querySelector(".ar-dark")'))
    time.sleep(4) # the pictures follow with the next beat
    shot_of(page, tinker, 'tinker')
    page.one('.ar-tools input').send_keys('a cubic')
    until(lambda: len(page.rows()) == 1)
    page.click('.ar-experiments .ar-table tbody tr')
    link = until(lambda: page.js('const a = document.querySelector("a.ar-link"); '
        'return a && a.href.includes("002-") && a.href'))
    assert not (bad := errors(browser)), bad
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(features=[]))
    assert token not in link
    with urllib.request.urlopen(link) as r: assert b'password_input' in r.read()
    with urllib.request.urlopen(f'{link}?{token}') as r:
        assert r.headers['Content-Security-Policy'].startswith("sandbox; default-src 'none'")
    browser.get(link)
    until(lambda: 'DEGREE = 3' in browser.find_element('css selector', 'body').text)
    shot(browser, 'executed-notebook')
    with pytest.raises(urllib.error.HTTPError) as e:
        urllib.request.urlopen(urllib.request.Request(said, headers=dict(Host='evil.example.org')))
    assert e.value.code == 403, 'a name that another page made point here'
    until(lambda: not kernels(pid)) # both pages are closed
    for bad in ('/executed/../001-aaaaaaa', '/executed/nov1/999-aaaaaaa',
            '/executed/nov1/..%2f..%2fsettings.ini'):
        asked = urllib.request.Request(url+bad, # a header goes along where it is sent on
            headers=dict(Authorization=token.replace('token=', 'token ')))
        with pytest.raises(urllib.error.HTTPError) as e: urllib.request.urlopen(asked)
        assert e.value.code in (403, 404)

@pytest.mark.parametrize('theme', ['light', 'dark'])
def test_the_executed_notebook_is_readable(browser, root, server, theme):
    "In the system's theme, each letter by 4.5 to 1 or more, no wider than a telephone, and named"
    url,pid,said = server
    folder = next((root/'runs'/lab.TAG).glob('002-*'))
    path = folder/'run.ipynb'
    nb = json.loads(path.read_text())
    ansi = ''.join(f'\x1b[{n}mcolour {n}\x1b[0m ' for n in [*range(30, 38), *range(90, 98), 41, 43, '30;47', '38;5;226', '38;5;17'])
    table = '<table border="1" class="dataframe"><tr><th></th><th>loss</th></tr>' + ''.join(
        f'<tr><th>{i}</th><td>{i/7}</td></tr>' for i in range(4)) + '</table>'
    outputs = [dict(output_type='stream', name='stdout', text=ansi + 'x'*400),
        dict(output_type='stream', name='stderr', text='a warning'),
        dict(output_type='display_data', metadata={}, data={'text/html': table}),
        dict(output_type='error', ename='E', evalue='v', traceback=['\x1b[31mE\x1b[0m: v'])]
    code = ('@deco\nclass A: # why\n    "said"\n    def f(self, x: int=1) -> str: return f"{x!r} {1.5e3}"'
        ' + r"\\d" if not None else len(x) % 2 @ 3\nraise ValueError(b"y", ...) # ' + 'z'*200)
    more = dict(cell_type='code', id='of-all-colours', metadata={}, source=code, outputs=outputs,
        execution_count=1)
    prose = dict(cell_type='markdown', id='prose', metadata={},
        source='# Title\n[link](x) `code`\n\n> quote\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nx = 1 # y\n```')
    path.write_text(json.dumps({**nb, 'cells': [*nb['cells'], more, prose]}))
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia',
        dict(features=[dict(name='prefers-color-scheme', value=theme)]))
    # its token brings the cookie; a page of the dashboard that is left before its program runs would
    # leave a kernel until it is culled
    browser.get(f'{url}/executed/{lab.TAG}/{folder.name}?{said.partition("?")[2]}')
    page = Page(browser)
    for width in (360, 1300):
        browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=width, height=900,
            deviceScaleFactor=1, mobile=width < 700))
        browser.get(f'{url}/executed/{lab.TAG}/{folder.name}')
        until(lambda: 'of all' not in browser.title and '#2' in browser.title)
        assert browser.title == '#2 a cubic' and page.text('h1') == '#2 a cubic'
        assert 'keep, rmse 0.1' in page.text('.ar-named') and folder.name in page.text('.ar-named')
        ground = page.js('return getComputedStyle(document.body).backgroundColor')
        assert ground == dict(light='rgb(255, 255, 255)', dark='rgb(29, 34, 38)')[theme]
        assert page.js('return document.documentElement.scrollWidth') <= width
        SHOTS.mkdir(parents=True, exist_ok=True)
        browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=width, height=page.js(
            'return document.documentElement.scrollHeight'), deviceScaleFactor=1, mobile=width < 700))
        browser.save_screenshot(str(SHOTS/f'executed-{theme}-{width}.png'))
        pale = page.js(PALE.replace('.ar-page *', 'body *'))
        assert not pale, pale
    browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(features=[]))
    path.write_text(json.dumps(nb))

def test_no_other_site_starts_a_kernel(browser, server, tmp_path):
    """A page on another port of this machine, which the browser counts as the same site, tries all
    that a page can; the cookie is there, and no kernel starts"""
    url,pid,said = server
    opened(browser, said)
    browser.get('about:blank')
    until(lambda: not kernels(pid))
    (tmp_path/'evil.html').write_text(f"""<img src="{url}/"><iframe src="{url}/"></iframe>
        <script src="{url}/"></script><form id="f" action="{url}/" target="g" method="get"></form>
        <iframe name="g"></iframe><a id="link" href="{url}/">here</a><script>
        window.done = 0;
        const later = p => p.catch(() => 0).then(() => window.done++);
        document.getElementById('f').submit();
        later(fetch('{url}/', {{mode: 'no-cors', credentials: 'include'}}));
        later(fetch('{url}/', {{credentials: 'include'}}));
        later(fetch('{url}/', {{method: 'POST', mode: 'no-cors', credentials: 'include'}}));
        </script>""")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        for name in ('localhost', '127.0.0.1'): # the same site, and another
            browser.get(f'http://{name}:{other.server_port}/evil.html')
            until(lambda: browser.execute_script('return window.done') == 3)
            browser.find_element('css selector', '#link').click()
            until(lambda: browser.current_url.startswith(url))
            time.sleep(2)
            assert not kernels(pid), name
        other.shutdown()
    opened(browser, url)
    assert len(kernels(pid)) == 1, 'the person who opens it has a page'
    browser.get('about:blank')

# where the focus is: its element, how far its ring stands out from what is around it, 0 for no ring
RING = PALE.partition('const faint')[0] + '''
const e = document.activeElement, s = getComputedStyle(e);
const [lo, hi] = [lum(parse(s.outlineColor)), lum(ground(e.parentElement ?? e))].sort((x, y) => x - y);
const none = s.outlineStyle === 'none' || parseFloat(s.outlineWidth) < 2;
const r = e.getBoundingClientRect();
return {at: e.dataset.at ?? '', tag: e.tagName, name: e.ariaLabel || e.title || e.textContent.slice(0, 40),
  ring: none ? 0 : (hi + .05)/(lo + .05), inTable: !!e.closest('.ar-experiments'), class: e.className.baseVal ?? e.className,
  onPage: !!e.closest('.ar-page')};'''

def press(d, *keys):
    from selenium.webdriver.common.action_chains import ActionChains
    for k in keys: ActionChains(d, duration=0).send_keys(k).perform()

def keys_down(d, shift, key):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys
    a = ActionChains(d, duration=0)
    if shift: a.key_down(Keys.SHIFT)
    a.send_keys(key)
    if shift: a.key_up(Keys.SHIFT)
    a.perform()

def test_the_keyboard_alone(browser, night):
    """Tab goes through all of the page and back; each stop has a ring and a name; what has the focus
    keeps it when the table is drawn anew"""
    from selenium.webdriver.common.keys import Keys
    with serving(night) as (url, pid, said):
        page = opened(browser, said)
        widened(browser, page, 1300)
        until(lambda: len(page.rows()) == 4)
        where = lambda: page.js(RING)
        for theme in ('light', 'dark'):
            themed(browser, page, theme)
            page.js('document.activeElement.blur(); scrollTo(0, 0);'
                ' const s = getSelection(); s.removeAllRanges();'
                ' document.querySelector(".ar-frontier select").focus()')
            stops = []
            for _ in range(140):
                keys_down(browser, False, Keys.TAB)
                if not (o := where())['onPage']: break
                stops.append(o)
            dim = [o for o in stops if o['ring'] < 3]
            assert not dim, "\n".join(map(str, [theme, *dim]))
            unnamed = [o for o in stops if o['tag'] not in ('SELECT', 'INPUT') and not o['name'].strip()]
            assert not unnamed, unnamed
            assert not [o for o in stops if o['name'] == 'null'], stops
            ats = [o['at'] for o in stops if o['at']]
            assert ats.count('head n') == 1 and ats[-1] == 'tick 1' and len(ats) > 12, ats
            assert not stops[-1]['inTable'], stops[-1]
            page.js('document.querySelector(".ar-show-crash").focus()')
            keys_down(browser, False, Keys.TAB)
            keys_down(browser, True, Keys.TAB)
            page.js('scrollTo(0, 0)')
            SHOTS.mkdir(parents=True, exist_ok=True)
            browser.save_screenshot(str(SHOTS/f'ring-{theme}.png'))
        find = page.one('.ar-tools input')
        page.js('arguments[0].focus()', find)
        n = 0
        while where()['inTable'] and n < 60:
            keys_down(browser, False, Keys.TAB)
            n += 1
        assert 10 < n < 60, n
        for _ in range(n): keys_down(browser, True, Keys.TAB)
        assert page.js('return document.activeElement === arguments[0]', find)

        # a header sorts by Enter and by Space, a tick is set by Space, and the focus stays there
        page.js('document.querySelector("[data-at=\'head value\']").focus()')
        press(browser, Keys.ENTER)
        until(lambda: 'value ↑' in heads(page))
        assert where()['at'] == 'head value'
        press(browser, Keys.SPACE)
        until(lambda: 'value ↓' in heads(page))
        assert where()['at'] == 'head value' and where()['ring'] > 3
        page.js('document.querySelector("[data-at=\'tick 2\']").focus()')
        ticked = lambda: page.js('return [...document.querySelectorAll(".ar-tick input:checked")]'
            '.map(e => e.dataset.at)')
        press(browser, Keys.SPACE)
        until(lambda: page.text('.ar-tools').endswith('1 ticked'))
        assert where()['at'] == 'tick 2'
        keys_down(browser, False, Keys.TAB)
        assert where()['at'].startswith('row ')
        keys_down(browser, False, Keys.TAB)
        press(browser, Keys.SPACE)
        until(lambda: page.text('.ar-tools').endswith('2 ticked'))
        assert len(ticked()) == 2 and where()['at'] in ticked()

        # an experiment that ends meanwhile leaves the focus with its row
        page.js('document.querySelector("[data-at=\'row 2\']").focus()')
        before = len(page.rows())
        ran(night, Row('c0ffee0', .5, 1., 'discard', 'appended'))
        until(lambda: len(page.rows()) == before+1)
        assert where()['at'] == 'row 2'

        # what is on says so, and a slider says what it moves and what runs
        pressed = lambda css: page.js('return document.querySelector(arguments[0]).ariaPressed', css)
        assert pressed('.ar-show-crash') == 'true'
        page.js('document.querySelector(".ar-show-crash").focus()')
        press(browser, Keys.SPACE)
        assert pressed('.ar-show-crash') == 'false'
        names = page.js('return [...document.querySelectorAll(".ar-page .noUi-handle")].map(e =>'
            ' [e.ariaLabel, e.ariaValueText, e.closest(".ar-knob")?.querySelector(".ar-value").textContent])')
        assert {'range, first', 'range, last', 'smooth', 'RATE', 'STEPS'} <= {o[0] for o in names}, names
        assert all(text and (run is None or text == run) for _,text,run in names), names
        assert not page.js("return [...document.querySelectorAll('button[title=null]')].map(e => e.outerHTML)")
        assert [e.get_attribute('aria-label') for e in page.all('.ar-tools button')][-2:] == [
            'previous page', 'next page']
        assert not (bad := errors(browser)), bad
        browser.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(features=[]))
        browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
        browser.get('about:blank')

def test_a_page_that_lost_its_kernel_says_so(browser, night):
    "Its kernel killed: one sentence with what to do, in sight, and no broken icons; a reload helps"
    with serving(night) as (url, pid, said):
        page = opened(browser, said)
        widened(browser, page, 1300)
        assert not page.all('.ar-deaf')
        for k in kernels(pid): k.send_signal(signal.SIGKILL)
        until(lambda: page.all('.ar-deaf'), seconds=100)
        page.js('scrollTo(0, 400)')
        SHOTS.mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(SHOTS/'deaf.png'))
        assert 'reload it' in page.text('.ar-deaf')
        top,bottom = page.js('const r = document.querySelector(".ar-deaf").getBoundingClientRect();'
            ' return [r.top, r.bottom]')
        assert -1 < top and 20 < bottom < 100
        icons = page.js('return [...document.querySelectorAll("body *")].filter(e => {'
            ' const c = getComputedStyle(e, "::before"); return c.content.includes("\\uf127")'
            ' && c.display !== "none"; }).length')
        assert icons == 0
        opened(browser, url)
        assert not page.all('.ar-deaf')
        browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
        browser.get('about:blank')
