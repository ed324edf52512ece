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

  // The section that is read is marked in the navigation.
  const links = new Map([...document.querySelectorAll('nav a')].map(
      (a) => [a.hash.slice(1), a]));
  const nav = document.querySelector('nav');
  const mark = () => {
    const line = nav.getBoundingClientRect().bottom + 40;
    let current = null;
    for (const section of document.querySelectorAll('main > section')) {
      if (section.getBoundingClientRect().top <= line) current = section.id;
    }
    for (const [id, link] of links) {
      if ((id === current) === link.classList.contains('here')) continue;
      link.classList.toggle('here', id === current);
      if (id !== current) continue;
      nav.scrollLeft = link.offsetLeft - (nav.clientWidth - link.offsetWidth) / 2;
    }
  };
  addEventListener('scroll', mark, {passive: true});
  mark();

  // A table that is wider than the page says that it scrolls.
  const scrolls = [...document.querySelectorAll('.scroll')].map((box) => {
    const hint = make('p', 'hint', 'scroll sideways for more columns \u2192');
    box.before(hint);
    return [box, hint];
  });
  const measure = () => {
    for (const [box, hint] of scrolls) {
      hint.hidden = box.scrollWidth <= box.clientWidth + 1;
    }
  };
  addEventListener('resize', measure);
  addEventListener('toggle', measure, true);
  measure();

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
    ...Object.entries(r.rewards || {}).map(([k, v]) => `${k} ${number(v)}`),
    `${r.length} tokens`, ...(r.stop === 'end' ? [] : [`stopped: ${r.stop}`])];
  const KINDS = {
    plain: 'Plain: the question alone',
    bcq: 'BCQ: one right and one wrong candidate',
    ncq: 'NCQ: its own wrong answers',
    prefix: "Prefix: the beginning of a right answer of the teacher's"};

  // Thumbnails of samples.jsonl; the beginning of their address is ours.
  const media = (items) => {
    const box = make('div', 'media');
    for (const item of items || []) {
      const figure = make('figure');
      const frames = make('div', 'frames');
      for (const shown of item.shown) {
        const image = make('img');
        image.alt = item.kind;
        image.addEventListener('load', () => {
          image.classList.toggle('tiny', image.naturalWidth < 64);
        });
        image.src = `data:image/jpeg;base64,${shown}`;
        frames.append(image);
      }
      const left = item.count - item.shown.length;
      const more = left > 0 ? `, ${item.shown.length} of ${item.count} shown` :
          '';
      figure.append(frames, make('figcaption', '', item.kind === 'clip' ?
          `clip of ${item.count} frames${more}` : `${item.size}${more}`));
      box.append(figure);
    }
    return box;
  };

  const fill = (body, {row, groups}, sort) => {
    body.append(make('h5', '', 'Question'), media(row.question.media),
                make('pre', '', row.question.text),
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
    if (row.question.media) meta.append(make('span', '', 'with pictures'));
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
  let unknown = [];  // what the address asks for and no question here has
  const fromAddress = () => {
    unknown = [];
    if (!location.hash.includes('=')) return {};
    const given = Object.fromEntries(
        new URLSearchParams(location.hash.slice(1)));
    for (const field of form.elements) {
      if (!(field.name in given)) continue;
      field.value = given[field.name];
      if (field.value === given[field.name]) continue;
      unknown.push(`${field.name} = ${given[field.name]}`);
      field.selectedIndex = 0;
    }
    return given;
  };
  const show = (openFirst) => {
    const f = wanted();
    const found = unknown.length ? [] : select(f);
    count.textContent = unknown.length ?
        `No question here has ${unknown.join(', ')}.` :
        `${found.length} of ${data.samples.length} questions`;
    cards.replaceChildren(...found.slice(0, shown).map((item) => {
      const {out, open} = card(item, f.sort);
      if (openFirst) { out.open = true; open(); }
      return out;
    }));
    more.hidden = found.length <= shown;
  };
  const changed = () => {
    shown = PAGE;
    unknown = [];
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
