/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/page/page.js - asks for the status again and again, and shows it
 *
 * Here:      the whole page but its plots (plots.js). What comes from scripts is put into
 *            the page as text, never as HTML.
 */
const EVERY_MS = 2000;
const SPAN_MS = 10 * 60000;
const ANSWER_MS = 15000;
const RELOAD_MS = 400000;
const BASE = location.pathname.replace(/\/+$/, '') + '/';

const samples = [];     /* [ms, {kind: {p50, p95, p99}}, rate] */
let lastAnswer = null;  /* when it came */
let timer = null;

const place = id => document.getElementById(id);

/* An element with text or elements in it. */
function make(name, className, ...content) {
    const element = document.createElement(name);
    if (className) {
        element.className = className;
    }
    element.append(...content.map(part => part instanceof Node ? part : String(part)));
    return element;
}

function duration(seconds) {
    if (seconds === 0) {
        return '0';
    }
    if (seconds < 0.001) {
        return Math.round(seconds * 1e6) + ' µs';
    }
    if (seconds < 1) {
        return Number((seconds * 1000).toPrecision(3)) + ' ms';
    }
    return Number(seconds.toPrecision(3)) + ' s';
}

function age(seconds) {
    for (const [unit, size] of [['d', 86400], ['h', 3600], ['min', 60]]) {
        if (seconds >= 2 * size) {
            return Math.floor(seconds / size) + ' ' + unit;
        }
    }
    return Math.floor(seconds) + ' s';
}

const memory = bytes => bytes === null ? '?' : Math.round(bytes / 1048576) + ' MiB';
const perSecond = rate => rate === 0 ? '0' : rate >= 0.1 ? rate.toFixed(1) : rate.toFixed(2);

function when(text) {
    const element = make('time', '', new Date(text).toLocaleString());
    element.dateTime = text;
    return element;
}

/* Gives the container these children, but keeps the old one that shows the same: what somebody
 * has selected, opened or scrolled there stays, and so does the focus. A child that is put in
 * anew, even the same one, loses all of that. */
function keepChildren(container, wanted) {
    const old = Array.from(container.children);
    const next = wanted.map(element => {
        const i = old.findIndex(each => each.dataset.key === element.dataset.key &&
                                        each.textContent === element.textContent);
        return i < 0 ? element : old.splice(i, 1)[0];
    });
    old.forEach(each => each.remove());
    next.forEach((each, i) => {
        if (container.children[i] !== each) {
            container.insertBefore(each, container.children[i] || null);
        }
    });
}

/* columns: [[title, function of a row that gives text or an element, class]...] */
function fillTable(table, columns, rows, empty) {
    if (rows.length === 0) {
        table.replaceChildren(make('caption', 'none', empty));
        return;
    }
    if (table.tBodies.length === 0) {
        const head = make('tr', '', ...columns.map(([title, , className]) => make('th', className, title)));
        table.replaceChildren(make('thead', '', head), make('tbody', ''));
    }
    keepChildren(table.tBodies[0], rows.map(row => make('tr', '', ...columns.map(
        ([, cell, className]) => make('td', className, cell(row))))));
}

const counted = value => value > 0 ? make('span', 'bad', value) : 0;

const CALL_COLUMNS = [
    ['Calls', row => row.Calls, 'right'],
    ['in a second', row => perSecond(row.Rate), 'right'],
    ['Errors', row => counted(row.Errors), 'right'],
    ['Late', row => counted(row.Late), 'right'],
    ['Died', row => counted(row.Died), 'right'],
    ['No host', row => counted(row.NoHost), 'right'],
    ['p50', row => duration(row.P50), 'right'],
    ['p95', row => duration(row.P95), 'right'],
    ['p99', row => duration(row.P99), 'right'],
    ['max', row => duration(row.Max), 'right']];

function number(title, value, isBad) {
    return make('div', isBad ? 'number bad' : 'number', make('b', '', value), title);
}

function showNumbers(status) {
    const kinds = Object.values(status.Callbacks);
    const sum = name => kinds.reduce((total, kind) => total + kind[name], 0);
    place('numbers').replaceChildren(
        number('hosts serve', status.Hosts.length, status.Hosts.length === 0),
        number('generation', status.Generation),
        number('uptime', age(status.Uptime)),
        number('calls', sum('Calls')),
        number('in a second', perSecond(sum('Rate'))),
        number('errors', sum('Errors'), sum('Errors') > 0),
        number('calls run', status.Hosts.reduce((total, host) => total + host.Running, 0)),
        number('calls wait', status.Calls.Waiting, status.Calls.Waiting > 0),
        number('events wait', status.Events.Queued),
        number('restarts', status.Deaths.Count, status.Deaths.Count > 0));
}

function showProblems(status) {
    const list = [];
    if (status.Hosts.length === 0) {
        list.push('Python is not served: no host is ready.');
    }
    if (status.Reload.ScriptIsBroken) {
        list.push('The script that is on disk does not load.');
    }
    if (status.Reload.Failure) {
        list.push(`The last reload has failed, and the generation before ${
            status.Reload.OldIsGone ? 'has ended' : 'goes on'}:\n` + status.Reload.Failure);
    }
    status.NeedRestart.forEach(what => list.push('Needs a restart of Orthanc: ' + what));
    status.WaitingRoutes.forEach(what => list.push('Becomes effective soon: ' + what));
    if (status.Events.Lost + status.Events.SetAside > 0) {
        list.push(`Change events: ${status.Events.Lost} lost, ${status.Events.SetAside} set aside.`);
    }
    place('problems').hidden = list.length === 0;
    keepChildren(place('problems'), list.map(text => make('li', '', text)));
}

function showTables(status) {
    fillTable(place('hosts'), [
        ['Worker', row => row.Worker], ['Process', row => row.Pid], ['State', row => row.State],
        ['Uptime', row => age(row.Uptime), 'right'], ['Calls', row => row.Calls, 'right'],
        ['run now', row => row.Running, 'right'], ['Memory (PSS)', row => memory(row.Memory.Pss), 'right'],
        ['RSS', row => memory(row.Memory.Rss), 'right']],
              status.Hosts.concat(status.StartingHosts, status.EndingHosts), 'None.');
    fillTable(place('callbacks'), [['Kind', row => row.Kind]].concat(CALL_COLUMNS),
              Object.entries(status.Callbacks).map(([kind, row]) => ({Kind: kind, ...row})), 'None was called yet.');
    fillTable(place('routes'), [['Route', row => row.Pattern]].concat(CALL_COLUMNS), status.Routes,
              'None was called yet.');
    fillTable(place('deaths'), [['When', row => when(row.At)], ['Process', row => row.Pid],
                                ['What has happened', row => row.Reason]], status.Restarts, 'None.');
}

/* One that can be opened. key tells it apart from others with the same text. */
function detail(key, text, ...head) {
    const element = make('details', '', make('summary', '', ...head), make('pre', '', text));
    element.dataset.key = key;
    return element;
}

function lastLine(text) {
    const lines = text.split('\n');
    return lines.slice(0, 2).join(' ').trim();      /* class and message come first */
}

function showHistory(status) {
    const total = status.Exceptions.Count;
    const list = status.Exceptions.List;
    place('exception-count').textContent = total > 0 ? `(${total} since the start)` : '';
    keepChildren(place('exceptions'), list.length === 0 ? [make('p', 'none', 'None.')] : list.map(
        (each, i) => detail(String(total - i), `${each.Script}, process ${each.Pid}\n\n${each.Traceback}`,
                            when(each.At), ` ${each.What}: ${lastLine(each.Traceback)}`)));
    keepChildren(place('generations'), status.Generations.map(each => {
        const head = [when(each.At), ` generation ${each.Generation} (process ${each.Pid}): ${each.Reason}`];
        return each.Failure === null ? make('p', 'none', ...head)
            : detail(each.At + each.Generation, each.Failure, ...head,
                     make('span', 'bad', ': it could not be loaded'));
    }));
}

function showKinds(status) {
    const select = place('kind');
    const kinds = Object.keys(status.Callbacks);
    const known = Array.from(select.options, option => option.value);
    for (const kind of kinds.filter(each => !known.includes(each))) {
        select.add(new Option(kind, kind));
    }
    if (known.length === 0 && kinds.length > 0) {   /* the busiest, until somebody chooses */
        select.value = kinds.reduce((a, b) => status.Callbacks[a].Calls >= status.Callbacks[b].Calls ? a : b);
    }
}

function showPlots(restarts) {
    const kind = place('kind').value;
    const spanMs = spanOf(samples, SPAN_MS);
    drawLines(place('latency'), samples.map(([ms, kinds]) => [ms, kinds[kind] || {}]), ['p50', 'p95', 'p99'], spanMs,
              duration, 'Latency over the last minutes');
    drawLines(place('rate'), samples.map(([ms, , rate]) => [ms, {p50: rate}]), ['p50'], spanMs, perSecond,
              'Calls in a second over the last minutes');
    if (restarts) {
        const counts = new Array(60).fill(0);
        for (const each of restarts) {
            const minutes = Math.floor((Date.now() - Date.parse(each.At)) / 60000);
            if (minutes < 60) {
                counts[59 - Math.max(minutes, 0)]++;    /* clocks may differ a little */
            }
        }
        drawBars(place('restarts'), counts, '60 min', 'Restarts in each minute of the last hour');
    }
}

function keepSample(status) {
    const kinds = {};
    let rate = 0;
    for (const [kind, row] of Object.entries(status.Callbacks)) {
        rate += row.Rate;
        if (row.Recent.Calls > 0) {
            kinds[kind] = {p50: row.Recent.P50, p95: row.Recent.P95, p99: row.Recent.P99};
        }
    }
    samples.push([Date.now(), kinds, rate]);
    while (samples[0][0] < Date.now() - SPAN_MS) {
        samples.shift();
    }
}

function show(status) {
    place('node').textContent = status.Node;
    place('versions').textContent = `Bridge ${status.Version}, Orthanc ${status.Orthanc}, ${status.Script}`;
    if (BASE.endsWith(status.AdminPath + '/')) {
        place('explorer').href = BASE.slice(0, -status.AdminPath.length - 1) + '/app/explorer.html';
    }
    keepSample(status);
    showNumbers(status);
    showProblems(status);
    showKinds(status);
    showPlots(status.Restarts);
    showTables(status);
    showHistory(status);
}

function say(text, className) {
    place('message').textContent = text;
    place('message').className = className;
    place('message').hidden = text === '';
}

/* Gives the answer, whatever its status. */
function ask(name, options, timeoutMs) {
    const controller = new AbortController();
    const late = setTimeout(() => controller.abort(), timeoutMs);
    return fetch(BASE + name, {signal: controller.signal, cache: 'no-store', credentials: 'same-origin', ...options})
        .finally(() => clearTimeout(late));
}

/* What an answer that is not ok says. It may come from others than the bridge (Orthanc, a filter
 * of the script, a proxy), with a JSON of theirs, or none. */
async function refusal(answer) {
    const text = await answer.text();
    let content = null;
    try {
        content = JSON.parse(text);
    } catch (error) {
        /* then the status has to do */
    }
    const {Error: failure, Message: message, Details: details} = content || {};
    const said = [failure || message, details].filter(each => each).join(':\n');
    return failure ? said : `Orthanc refuses (HTTP status ${answer.status})` + (said ? ': ' + said : '');
}

function sayOld(reason) {
    place('freshness').textContent = reason +
        (lastAnswer !== null ? ', this is as of ' + lastAnswer.toLocaleTimeString() : '');
    place('freshness').className = 'bad';
}

async function refresh() {
    try {
        const answer = await ask('status', {}, ANSWER_MS);
        if (answer.ok) {
            const status = await answer.json();
            lastAnswer = new Date();
            show(status);
            place('freshness').textContent = 'as of ' + lastAnswer.toLocaleTimeString();
            place('freshness').className = '';
        } else {
            sayOld(await refusal(answer));
        }
    } catch (error) {
        sayOld(`Orthanc does not answer (${error.message})`);
    }
    document.body.dataset.refreshed = String(Number(document.body.dataset.refreshed || 0) + 1);
}

async function keepRefreshing() {
    clearTimeout(timer);
    if (!document.hidden) {
        await refresh();
    }
    clearTimeout(timer);
    timer = setTimeout(keepRefreshing, EVERY_MS);
}

async function reload() {
    place('reload').disabled = true;
    say('The script is being loaded ...', '');
    try {
        const answer = await ask('reload', {method: 'POST'}, RELOAD_MS);
        if (answer.ok) {
            const result = await answer.json();
            say(`Generation ${result.Generation} serves (process ${result.Pid}).`, 'good');
        } else {
            say(await refusal(answer), 'bad');
        }
    } catch (error) {
        say(`The script was not loaded, or Orthanc has not told: ${error.message}`, 'bad');
    }
    place('reload').disabled = false;
    await refresh();
}

place('stacks').href = BASE + 'stacks?format=text';
place('status').href = BASE + 'status';
place('reload').addEventListener('click', reload);
place('kind').addEventListener('change', () => showPlots(null));
document.addEventListener('visibilitychange', keepRefreshing);
keepRefreshing();
