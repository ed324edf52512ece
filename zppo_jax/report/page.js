'use strict';
(() => {
  // Everything that a run wrote enters the page by textContent only.
  const data = JSON.parse(document.getElementById('data').textContent);
  const make = (tag, kind, text) => {
    const out = document.createElement(tag);
    if (kind) out.className = kind;
    if (text !== undefined) out.textContent = text;
    return out;
  };
  const number = (v) => v === null ? '-' :
      Math.abs(v) >= 1000 ? Math.round(v).toLocaleString('en') :
      String(Number(v.toPrecision(4)));

  // Charts: the values under the pointer. Geometry as in charts.py.
  const LEFT = 46, RIGHT = 18, WIDTH = 420;
  const nearest = (xs, x) => {
    let best = 0;
    xs.forEach((v, i) => {
      if (Math.abs(v - x) < Math.abs(xs[best] - x)) best = i;
    });
    return best;
  };
  const underPointer = (hover, share) => {
    if (hover.kind === 'bar') {
      const count = hover.categories.length;
      const i = Math.min(count - 1, Math.max(0, Math.floor(share * count)));
      return {
        at: (i + 0.5) / count, head: `${hover.x} ${hover.categories[i]}`,
        lines: hover.series.map((s) => `${s.label}: ${number(s.y[i])}`)};
    }
    const x = hover.low + share * (hover.high - hover.low);
    const near = hover.series.map((s) => s.x[nearest(s.x, x)]);
    const at = near[nearest(near, x)];
    const lines = [];
    for (const s of hover.series) {
      const i = s.x.indexOf(at);
      if (i < 0) continue;
      const band = s.low ?
          ` [${number(s.low[i])}, ${number(s.high[i])}]` : '';
      lines.push(`${s.label}: ${number(s.y[i])}${band}`);
    }
    return {at: (at - hover.low) / (hover.high - hover.low),
            head: `${hover.x} ${number(at)}`, lines};
  };
  for (const figure of document.querySelectorAll('figure[data-hover]')) {
    const hover = data.hovers[Number(figure.dataset.hover)];
    const plot = figure.querySelector('.plot');
    const svg = plot.querySelector('svg');
    const cursor = svg.querySelector('.cursor');
    const tip = plot.querySelector('.tip');
    const hide = () => {
      tip.hidden = true;
      if (cursor) cursor.style.visibility = 'hidden';
    };
    plot.addEventListener('pointermove', (event) => {
      const box = svg.getBoundingClientRect();
      const inside = (event.clientX - box.left) / box.width * WIDTH - LEFT;
      const share = inside / (WIDTH - LEFT - RIGHT);
      if (share < -0.03 || share > 1.03) return hide();
      const found = underPointer(hover, share);
      tip.textContent = [found.head, ...found.lines].join('\n');
      tip.hidden = false;
      const px = LEFT + found.at * (WIDTH - LEFT - RIGHT);
      const onRight = found.at < 0.5;
      tip.style.left = onRight ? `${(px + 8) / WIDTH * 100}%` : 'auto';
      tip.style.right = onRight ? 'auto' :
          `${(WIDTH - px + 8) / WIDTH * 100}%`;
      if (cursor) {
        cursor.setAttribute('x1', px);
        cursor.setAttribute('x2', px);
        cursor.style.visibility = 'visible';
      }
    });
    plot.addEventListener('pointerleave', hide);
  }

  // The browser of questions.
  const form = document.getElementById('filters');
  if (!form) return;
  const PAGE = 10;
  const cards = document.getElementById('cards');
  const more = document.getElementById('more');
  const count = document.getElementById('count');
  let shown = PAGE;

  const all = (row) => row.groups.flatMap((g) => g.rollouts);
  const words = data.samples.map((row) => [
    row.question.id, row.question.text, row.question.answer,
    ...row.teacher.map((t) => t.text),
    ...row.groups.flatMap((g) => [
      g.prompt, ...g.candidates.map((c) => c.text),
      ...g.rollouts.map((r) => r.text)])].join('\n').toLowerCase());

  const options = (name, values, label = String) => {
    const select = form.elements[name];
    select.append(new Option('all', ''));
    for (const v of values) select.append(new Option(label(v), String(v)));
    select.closest('label').hidden = values.length < 2;
  };
  const distinct = (values) => [...new Set(values)];
  const ordered = (values) => distinct(values).sort(
      (a, b) => typeof a === 'number' ? a - b : String(a).localeCompare(b));
  options('run', ordered(data.samples.map((r) => r.run)),
          (i) => data.runs[i]);
  options('step', ordered(data.samples.map((r) => r.step)));
  options('split', ordered(data.samples.map((r) => r.question.split)));
  options('kind', distinct(data.samples.flatMap(
      (r) => r.groups.map((g) => g.kind))));
  options('verdict', ordered(data.samples.flatMap(
      (r) => all(r).map((x) => x.verdict))));

  const wanted = () => Object.fromEntries(
      [...new FormData(form)].filter(([, v]) => v !== ''));

  // A group as the filters leave it, or null.
  const partOf = (group, f) => {
    if (f.kind && group.kind !== f.kind) return null;
    const rollouts = group.rollouts.filter(
        (r) => !f.verdict || r.verdict === f.verdict);
    return rollouts.length ? {...group, rollouts, whole: group} : null;
  };
  const select = (f) => {
    const out = [];
    data.samples.forEach((row, i) => {
      if (f.run && String(row.run) !== f.run) return;
      if (f.step && String(row.step) !== f.step) return;
      if (f.split && row.question.split !== f.split) return;
      if (f.q && !words[i].includes(f.q.toLowerCase())) return;
      const groups = row.groups.map((g) => partOf(g, f)).filter(Boolean);
      if (groups.length) out.push({row, groups});
    });
    const reward = ({groups}) => {
      const found = groups.flatMap((g) => g.whole.rollouts).map(
          (r) => r.reward);
      return found.reduce((a, b) => a + b, 0) / found.length;
    };
    if (f.sort === 'best') out.sort((a, b) => reward(b) - reward(a));
    if (f.sort === 'worst') out.sort((a, b) => reward(a) - reward(b));
    return out;
  };

  const chip = (verdict) => make(
      'span', `chip ${verdict === 'correct' ? 'good' : 'wrong'}`,
      verdict.replace('_', ' '));
  const answerOf = (item, facts) => {
    const out = make('div', 'answer');
    const meta = make('div', 'meta');
    if (item.verdict) meta.append(chip(item.verdict));
    meta.append(make('span', '', item.answer ? `answer ${item.answer}` :
                     'no answer found'));
    for (const fact of facts) meta.append(make('span', '', fact));
    out.append(meta, make('pre', '', item.text));
    return out;
  };
  const answers = (title, items, factsOf) => {
    const box = make('div', 'answers');
    box.append(...items.map((item) => answerOf(item, factsOf(item))));
    return [make('h5', '', title), box];
  };
  const signed = (v) => (v > 0 ? '+' : '') + number(v);
  const factsOf = (r) => [
    ...(typeof r.advantage === 'number' ?
        [`advantage ${signed(r.advantage)}`] : []),
    ...Object.entries(r.rewards || {}).map(
        ([name, value]) => `${name} ${number(value)}`),
    `${r.length} tokens`, ...(r.stop === 'end' ? [] : [`stopped: ${r.stop}`])];
  const KINDS = {
    plain: 'Plain: the question alone',
    bcq: 'BCQ: one right and one wrong candidate',
    ncq: 'NCQ: its own wrong answers',
    prefix: "Prefix: the beginning of a right answer of the teacher's"};

  const fill = (body, {row, groups}, sort) => {
    body.append(make('h5', '', 'Question'), make('pre', '', row.question.text),
                make('h5', '', 'Right answer'),
                make('pre', '', row.question.answer));
    for (const group of groups) {
      const {rollouts: every} = group.whole;
      const right = every.filter((r) => r.reward > 0).length;
      body.append(make('h4', '', `${KINDS[group.kind] || group.kind} (` +
          `${right} of ${every.length} right)`));
      body.append(make('h5', '', 'Prompt, as the model saw it'),
                  make('pre', 'prompt', group.prompt));
      if (group.candidates.length) {
        body.append(...answers('Candidates in it', group.candidates,
                               () => []));
      }
      const rollouts = [...group.rollouts];
      if (sort === 'best') rollouts.sort((a, b) => b.reward - a.reward);
      if (sort === 'worst') rollouts.sort((a, b) => a.reward - b.reward);
      const part = rollouts.length < every.length ?
          `, ${rollouts.length} of ${every.length}` : '';
      body.append(...answers(`Student's answers${part}`, rollouts, factsOf));
    }
    if (row.teacher.length) {
      body.append(make('h4', '', 'Teacher'),
                  ...answers("Teacher's answers", row.teacher, () => []));
    }
  };
  const card = (found, sort) => {
    const {row} = found;
    const out = make('details', 'question');
    const summary = make('summary');
    const meta = make('span', 'meta');
    meta.append(make('b', '', `step ${row.step}`));
    if (data.runs.length > 1) meta.append(make('span', '', data.runs[row.run]));
    meta.append(make('span', '', row.question.split),
                make('span', '', `plain ${Math.round(row.accuracy * 100)} % right`),
                make('span', '', found.groups.map((g) => g.kind).join(', ')));
    if (row.replayed) meta.append(make('span', '', 'replayed'));
    meta.append(make('span', '', row.question.id));
    const text = row.question.text;
    summary.append(meta, make('span', '', text.length > 200 ?
        `${text.slice(0, 200)}...` : text));
    out.append(summary);
    const body = make('div', 'body');
    out.append(body);
    const open = () => { if (!body.firstChild) fill(body, found, sort); };
    out.addEventListener('toggle', () => { if (out.open) open(); });
    return {out, open};
  };

  // The filters live in the address, so that a view can be sent to somebody:
  // report.html#kind=bcq&verdict=wrong&open=1
  const fromAddress = () => {
    if (!location.hash.includes('=')) return {};
    const given = Object.fromEntries(
        new URLSearchParams(location.hash.slice(1)));
    for (const field of form.elements) {
      if (!(field.name in given)) continue;
      field.value = given[field.name];
    }
    return given;
  };
  const show = (openFirst) => {
    const f = wanted();
    const found = select(f);
    count.textContent = `${found.length} of ${data.samples.length} questions`;
    cards.replaceChildren(...found.slice(0, shown).map((item) => {
      const {out, open} = card(item, f.sort);
      if (openFirst) { out.open = true; open(); }
      return out;
    }));
    more.hidden = found.length <= shown;
  };
  const changed = () => {
    shown = PAGE;
    const f = wanted();
    if (f.sort === 'step') delete f.sort;
    history.replaceState(null, '', `#${new URLSearchParams(f)}`);
    show(false);
  };
  form.addEventListener('input', changed);
  form.addEventListener('submit', (event) => event.preventDefault());
  more.addEventListener('click', () => { shown += PAGE; show(false); });
  const restore = () => {
    form.reset();
    const given = fromAddress();
    show(given.open === '1');
    if (Object.keys(given).length) {
      document.getElementById('samples').scrollIntoView();
    }
  };
  window.addEventListener('hashchange', () => {
    if (location.hash.includes('=')) restore();
  });
  restore();
})();
