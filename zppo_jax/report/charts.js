'use strict';
// Draws the charts of the page with uPlot, from the views of charts.py. A chart
// shows values at the pointer in its legend, zooms along x (drag, pinch), and
// switches between a linear and a logarithmic y axis.
(() => {
  const plots = JSON.parse(document.getElementById('data').textContent).plots;
  const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3], [12, 4], [4, 2], [1, 2],
                  [6, 2, 1, 2]];
  const HEIGHT = 210, COLORS = 8;
  const make = (tag, kind, text) => {
    const out = document.createElement(tag);
    if (kind) out.className = kind;
    if (text !== undefined) out.textContent = text;
    return out;
  };

  // Colours are those of page.css in the scheme that is shown.
  const probe = make('i', 'probe');
  document.body.append(probe);
  let colors = {};
  const color = (name) => {
    if (!(name in colors)) {
      probe.style.color = `var(--${name})`;
      colors[name] = getComputedStyle(probe).color;
    }
    return colors[name];
  };
  const faded = (name, share) =>
      color(name).replace(/^rgba?\(([^,]+,[^,]+,[^,)]+).*$/, `rgba($1, ${share})`);
  const ink = (style) => `s${style % COLORS}`;

  const number = (v) => v === null || v === undefined ? '-' :
      Math.abs(v) >= 1000 ? Math.round(v).toLocaleString('en') :
      String(Number(v.toPrecision(4)));
  const UNITS = [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e4, 'k']];
  // Labels of one axis, all in the same unit.
  const labels = (values) => {
    const top = Math.max(...values.filter((v) => v !== null).map(Math.abs), 0);
    const unit = UNITS.find(([size]) => top >= size);
    if (unit) {
      const size = unit[1] === 'k' ? 1e3 : unit[0];
      return values.map((v) => v === null ? '' :
          v ? `${Number((v / size).toPrecision(4))}${unit[1]}` : '0');
    }
    return values.map((v) => v === null ? '' : top > 0 && top < 1e-3 && v ?
        v.toExponential(0) : String(Number(v.toPrecision(6))));
  };

  // A view as uPlot's aligned data. Each column says what it is; `shown` are the
  // columns with a row in the legend.
  const columnsOf = (view, log) => {
    const kept = (ys) => log ? ys.map((v) => v > 0 ? v : null) : ys;
    const columns = [];
    if (view.kind === 'line') {
      for (const one of view.series) {
        const owner = columns.length;
        columns.push({one, x: one.x, y: kept(one.y), role: 'main'});
        if (one.low) {
          columns.push({one, owner, x: one.x, y: kept(one.high), role: 'high'},
                       {one, owner, x: one.x, y: kept(one.low), role: 'low'});
        }
        for (const [x, y] of one.faint || []) {
          columns.push({one, owner, x, y: kept(y), role: 'faint'});
        }
      }
      return columns;
    }
    const count = view.series.length;
    const places = view.categories.map((_, c) => c);
    if (view.kind === 'bar') {
      view.series.forEach((one, i) => columns.push({
        one, x: places.map((c) => c + (i - (count - 1) / 2) * 0.8 / count),
        y: kept(one.y), own: one.y, role: 'bar'}));
      return columns;
    }
    const sums = places.map(() => 0);
    for (const one of view.series) {
      one.y.forEach((v, c) => { sums[c] += v || 0; });
      columns.unshift({one, x: places, y: [...sums], own: one.y, role: 'bar'});
    }
    return columns;
  };
  const align = (columns) => uPlot.join(
      columns.map(({x, y}) => [x, y]));

  const seriesOf = (column, view) => {
    const {one, role} = column;
    const name = ink(one.style);
    const few = column.x.length <= 12;
    const common = {
      label: one.label, scale: 'y', class: `is-${role}`,
      value: (u, v, i, at) => number(column.own ?
          column.own[Math.round(u.data[0][at])] : v)};
    if (role === 'bar') {
      const stack = view.kind === 'stack';
      return {
        ...common, fill: () => color(name), stroke: () => color(name), width: 0,
        points: {show: false}, paths: uPlot.paths.bars({
          size: [stack ? 0.92 : 0.74 / view.series.length, 60]})};
    }
    const band = role === 'low' || role === 'high';
    return {
      ...common, spanGaps: false,
      stroke: band ? 'transparent' :
          () => role === 'faint' ? faded(name, 0.32) : color(name),
      width: role === 'faint' ? 1 : one.bold ? 2.4 : 1.7,
      dash: role === 'main' ?
          DASHES[(one.style + Math.floor(one.style / COLORS)) % COLORS] : [],
      points: {show: role === 'main' && few, size: 6,
               fill: () => color(name), stroke: () => color(name)}};
  };

  // The index of a column's value that is nearest to where the pointer is.
  const nearest = (u, i, at) => {
    const xs = u.data[0], ys = u.data[i];
    if (at === null || at === undefined || ys === undefined) return at;
    let low = at, high = at;
    while (low >= 0 && ys[low] === undefined) low--;
    while (high < ys.length && ys[high] === undefined) high++;
    if (low < 0) return high < ys.length ? high : null;
    if (high >= ys.length) return low;
    return xs[at] - xs[low] <= xs[high] - xs[at] ? low : high;
  };

  const rangeOf = (view, log) => (u, low, high) => {
    if (low === null || low === undefined) return log ? [0.1, 1] : [0, 1];
    if (log) return uPlot.rangeLog(low, high, 10, false);
    const [from, to] = view.y;
    if (view.kind === 'stack') return [0, to];
    const least = from === null ? low : Math.min(from, low);
    const most = to === null ? high : Math.max(to, high);
    const room = most - least < 1e-12 * Math.max(1, Math.abs(most)) ?
        Math.abs(most) * 0.1 || 1 : 0.05 * (most - least);
    const above = view.kind === 'bar' ? 2 * room : room;  // for its number
    return [least === from ? least : least - room,
            most === to ? most : most + above];
  };

  const axesOf = (view) => {
    const shared = {
      stroke: () => color('soft'), font: '12px system-ui, sans-serif',
      grid: {stroke: () => color('line'), width: 1},
      ticks: {stroke: () => color('line'), width: 1, size: 4}};
    const named = {
      ...shared, label: view.x, labelSize: 18, labelGap: 0, size: 28, space: 46,
      labelFont: '12px system-ui, sans-serif', grid: {show: false},
      values: (u, splits) => labels(splits)};
    if (view.kind !== 'line') {
      named.splits = (u) => {
        const longest = Math.max(...view.categories.map((c) => c.length));
        const room = Math.max(24, longest * 7 + 8) *
            (view.categories.length / Math.max(u.width - 70, 1));
        const every = Math.max(1, Math.ceil(room));
        return view.categories.map((_, c) => c).filter((c) => c % every === 0);
      };
      named.values = (u, splits) => splits.map((c) => view.categories[c]);
    }
    return [named, {...shared, scale: 'y', size: 50, space: 30,
                    values: (u, splits) => labels(splits)}];
  };

  // The numbers on bars that are wide enough for them.
  const heights = (u, columns) => {
    const pixels = devicePixelRatio;
    const wide = (u.valToPos(1, 'x') - u.valToPos(0, 'x')) * 0.74 /
        columns.length;
    if (wide < 26) return;
    const {ctx} = u;
    ctx.save();
    ctx.fillStyle = color('soft');
    ctx.font = `${11 * pixels}px system-ui, sans-serif`;
    ctx.textAlign = 'center';
    ctx.textBaseline = 'bottom';
    for (const {x, y} of columns) {
      x.forEach((at, i) => {
        if (y[i] === null || at < u.scales.x.min || at > u.scales.x.max) return;
        ctx.fillText(Number(y[i].toPrecision(3)).toLocaleString('en'), u.valToPos(at, 'x', true),
                     u.valToPos(y[i], 'y', true) - 2 * pixels);
      });
    }
    ctx.restore();
  };

  class Chart {
    constructor(figure, views) {
      this.views = views;
      this.at = 0;
      this.log = false;
      this.box = figure.querySelector('.plot');
      this.tools = make('div', 'tools');
      figure.querySelector('figcaption').append(this.tools);
      this.box.chart = this;
      this.reset = this.button('reset zoom', () => this.draw());
      this.reset.hidden = true;
      if (views[0].kind === 'line') {
        this.logButton = this.button('log', () => {
          this.log = !this.log;
          this.logButton.setAttribute('aria-pressed', String(this.log));
          this.draw();
        });
        this.logButton.setAttribute('aria-pressed', 'false');
        this.logButton.title = 'logarithmic y axis; values at or below 0 are ' +
            'left out';
      }
      if (views.length > 1) this.choices();
      this.draw();
    }
    button(text, act) {
      const out = make('button', '', text);
      out.type = 'button';
      out.addEventListener('click', act);
      this.tools.append(out);
      return out;
    }
    choices() {
      const select = make('select');
      this.views.forEach((view, i) => select.append(
          new Option(view.x, String(i))));
      select.addEventListener('change', () => {
        this.at = Number(select.value);
        this.draw();
      });
      const label = make('label', '', 'against ');
      label.append(select);
      this.tools.prepend(label);
    }
    get width() { return Math.max(120, Math.floor(this.box.clientWidth)); }
    draw() {
      if (this.u) this.u.destroy();
      const view = this.views[this.at];
      const columns = columnsOf(view, this.log);
      const data = align(columns);
      const bands = [];
      columns.forEach((c, i) => {
        if (c.role !== 'high') return;
        bands.push({series: [i + 1, i + 2],
                    fill: () => faded(ink(c.one.style), 0.18)});
      });
      const line = view.kind === 'line';
      const ends = line ? [data[0][0], data[0][data[0].length - 1]] :
          [-0.5, view.categories.length - 0.5];
      if (ends[0] === ends[1]) { ends[0] -= 0.5; ends[1] += 0.5; }
      this.ends = ends;
      this.u = new uPlot({
        width: this.width, height: HEIGHT, bands, axes: axesOf(view),
        padding: [8, 12, 0, 0],
        scales: {
          x: {time: false, min: ends[0], max: ends[1]},
          y: {distr: this.log ? 3 : 1, range: rangeOf(view, this.log)}},
        cursor: {
          y: false, drag: {x: true, y: false, dist: 6},
          dataIdx: (u, i, at) => i === 0 ? at : nearest(u, i, at),
          points: {size: line ? 7 : 0}},
        legend: {live: true, markers: {
          width: 0, fill: (u, i) => color(ink(columns[i - 1].one.style))}},
        series: [
          {label: view.x, class: 'is-x', value: (u, v) => v === null ||
              v === undefined ? '-' : line ? number(v) :
              view.categories[Math.round(v)]},
          ...columns.map((column) => seriesOf(column, view))],
        hooks: {
          draw: [(u) => { if (view.kind === 'bar') heights(u, columns); }],
          setScale: [(u, key) => { if (key === 'x') this.zoomed(u); }],
          setSeries: [(u, i, options) => this.together(u, columns, i, options)]}
      }, data, this.box);
      this.swatches(columns, view);
      touch(this);
      this.zoomed(this.u);
    }
    zoomed(u) {
      const {min, max} = u.scales.x;
      const [low, high] = this.ends;
      const slack = 1e-9 * (high - low);
      this.reset.hidden = !(min > low + slack || max < high - slack);
    }
    // A line is switched off with its band and the runs behind it.
    together(u, columns, i, options) {
      if (i === null || options.show === undefined) return;
      columns.forEach((column, k) => {
        if (column.owner === i - 1) u.setSeries(k + 1, {show: options.show});
      });
    }
    // The legend shows dashes as the chart does, and no row that needs none.
    swatches(columns, view) {
      const rows = [...this.box.querySelectorAll('.u-series')].slice(1);
      rows.forEach((row, i) => {
        const {one, role} = columns[i];
        const marker = row.querySelector('.u-marker');
        if (role !== 'main' || !marker) return;
        const dash = DASHES[
            (one.style + Math.floor(one.style / COLORS)) % COLORS];
        marker.style.background = dash.length ? `repeating-linear-gradient(` +
            `90deg, var(--${ink(one.style)}) 0 ${dash[0]}px, transparent ` +
            `${dash[0]}px ${dash[0] + dash[1]}px)` : `var(--${ink(one.style)})`;
        marker.classList.add('line');
      });
      if (view.kind === 'stack') {  // the first stands lowest, and first here
        const body = rows[0].parentElement;
        rows.reverse().forEach((row) => body.append(row));
      }
    }
  }

  // A finger shows values, two of them zoom; up and down scroll the page.
  const touch = (chart) => {
    const over = chart.u.over;
    const fingers = new Map();
    let start = null;
    const x = (event) => event.clientX - over.getBoundingClientRect().left;
    const span = () => {
      const [a, b] = [...fingers.values()].sort((p, q) => p - q);
      return [a, b];
    };
    over.addEventListener('pointerdown', (event) => {
      if (event.pointerType !== 'touch') return;
      fingers.set(event.pointerId, x(event));
      if (fingers.size === 2) {
        start = span().map((at) => chart.u.posToVal(at, 'x'));
      }
    });
    over.addEventListener('pointermove', (event) => {
      if (!fingers.has(event.pointerId)) return;
      fingers.set(event.pointerId, x(event));
      if (fingers.size === 1) {
        chart.u.setCursor({left: x(event), top: 10});
      } else if (fingers.size === 2 && start) {
        const [a, b] = span();
        if (b - a < 10) return;
        const scale = (start[1] - start[0]) / (b - a);
        const width = over.clientWidth;
        const [low, high] = chart.ends;
        const min = Math.max(low, start[0] - a * scale);
        const max = Math.min(high, start[0] + (width - a) * scale);
        if (max > min) chart.u.setScale('x', {min, max});
      }
    });
    for (const end of ['pointerup', 'pointercancel']) {
      over.addEventListener(end, (event) => {
        fingers.delete(event.pointerId);
        start = null;
      });
    }
  };

  const charts = [...document.querySelectorAll('figure[data-plot]')].map(
      (figure) => new Chart(figure, plots[Number(figure.dataset.plot)]));
  const repaint = () => {
    colors = {};
    for (const {u} of charts) u.redraw(false, true);
  };
  matchMedia('(prefers-color-scheme: dark)').addEventListener(
      'change', repaint);
  // Paper is white.
  const root = document.documentElement;
  addEventListener('beforeprint', () => {
    root.style.colorScheme = 'light';
    repaint();
  });
  addEventListener('afterprint', () => {
    root.style.colorScheme = '';
    repaint();
  });
  let pending = 0;
  new ResizeObserver(() => {
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(() => {
      for (const chart of charts) {
        if (chart.u.width !== chart.width) {
          chart.u.setSize({width: chart.width, height: HEIGHT});
        }
      }
    });
  }).observe(document.querySelector('main'));
})();
