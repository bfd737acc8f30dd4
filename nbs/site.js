// What the pages do beside lying there: the page that is open is marked in the bar, numbers stand
// under each other, a dark page is dark everywhere, and constants can be dragged. Nothing here asks
// another server.
(() => {
  'use strict'
  const all = (selector, root = document) => [...root.querySelectorAll(selector)]
  const dark = () => document.body.classList.contains('quarto-dark')
  const page = url => new URL(url, location.href).pathname.replace(/\/$/, '/index.html')

  // Quarto marks the bar's first entry on every page of the sidebar that it is in.
  const markBar = () => {
    for (const link of all('.navbar-nav .nav-link[href]')) {
      const here = page(link.href) === page(location.href)
      link.classList.toggle('active', here)
      if (here) link.setAttribute('aria-current', 'page')
      else link.removeAttribute('aria-current')
    }
  }

  // A column whose cells are all numbers, or empty, is read from its right end.
  const number = /^[-+±~]?\d[\d,_. ]*(e[-+]?\d+)?\s*(%|s|min|h|GB|kB|MB|[kM])?$/i
  const nothing = /^(|-|–|nan|none)$/i
  const alignNumbers = table => {
    const rows = all('tbody tr', table).map(row => [...row.children])
    const width = Math.max(0, ...rows.map(row => row.length))
    for (let column = 0; column < width; column++) {
      const cells = rows.map(row => row[column]).filter(Boolean)
      const texts = cells.map(cell => cell.textContent.trim()).filter(text => !nothing.test(text))
      if (!texts.length || !texts.every(text => number.test(text))) continue
      const heads = all('thead tr', table).map(row => row.children[column]).filter(Boolean)
      for (const cell of [...heads, ...cells]) cell.classList.add('number')
    }
  }

  // The dashboard's parts have a dark look of their own, which a page of the site asks for.
  const darkenParts = () => {
    for (const part of all('.ar-page')) {
      if (part.dataset.own === undefined) part.dataset.own = part.classList.contains('ar-dark')
      part.classList.toggle('ar-dark', dark() || part.dataset.own === 'true')
    }
  }

  let plotly = null
  const loadPlotly = () => plotly ??= new Promise((done, failed) => {
    const script = document.createElement('script')
    script.src = 'plotly.min.js'
    script.onload = () => done(window.Plotly)
    script.onerror = failed
    document.head.append(script)
  })

  const inks = ['blue', 'orange', 'green'], dashes = ['solid', 'dash', 'dot']
  const ink = name => getComputedStyle(document.body).getPropertyValue(`--ink-${name}`).trim()

  class Drag {
    constructor(figure) {
      this.data = JSON.parse(figure.dataset.drag)
      const part = selector => figure.querySelector(selector)
      Object.assign(this, {range: part('input'), shown: part('output'), says: part('.drag-says'),
        picture: part('.drag-picture')})
      this.range.addEventListener('input', () => this.show())
      this.show()
      loadPlotly().then(() => this.begin(), () => figure.classList.add('drag-still'))
    }
    begin() {
      this.picture.replaceChildren()
      this.drawn = true
      this.show()
    }
    show() {
      const frame = this.data.frames[this.range.value]
      this.shown.value = frame.value
      this.range.setAttribute('aria-valuetext', frame.value)
      this.says.textContent = frame.says
      this.picture.setAttribute('aria-label', frame.says)
      if (!this.drawn) return
      const traces = Object.entries(frame.curves).map(([name, y], i) => ({x: this.data.x, y, name,
        mode: 'lines', line: {color: ink(inks[i]), dash: dashes[i], width: 2.5}}))
      window.Plotly.react(this.picture, traces, this.layout(traces.length),
        {displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: false})
    }
    layout(curves) {
      const {xlabel, ylabel, ends, log} = this.data, color = ink('text')
      const axis = {fixedrange: true, gridcolor: ink('grid'), linecolor: color, zeroline: false}
      return {height: 300, margin: {l: 60, r: 10, t: 10, b: 45}, showlegend: curves > 1,
        legend: {orientation: 'h', y: 1.12}, dragmode: false, hovermode: 'x', font: {color, size: 13},
        paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)',
        xaxis: {...axis, title: {text: xlabel}},
        yaxis: {...axis, title: {text: ylabel}, type: log ? 'log' : 'linear',
          range: log ? ends.map(Math.log10) : ends}}
    }
  }

  document.addEventListener('DOMContentLoaded', () => {
    markBar()
    all('main table').forEach(alignNumbers)
    darkenParts()
    const drags = all('.drag').map(figure => new Drag(figure))
    new MutationObserver(() => {
      darkenParts()
      for (const drag of drags) drag.show()
    }).observe(document.body, {attributes: true, attributeFilter: ['class']})
  })
})()
