/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/page/plots.js - lines and bars over time, in SVG
 *
 * Here:      drawing. Elsewhere: what is drawn, and how numbers are written (page.js).
 */
const PLOT = {width: 400, height: 150, left: 44, right: 6, top: 8, bottom: 18};

function svgElement(name, attributes, text) {
    const element = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes)) {
        element.setAttribute(key, value);
    }
    if (text !== undefined) {
        element.textContent = text;
    }
    return element;
}

/* 1, 2 or 5 times a power of ten, not below value. */
function niceLimit(value) {
    const power = Math.pow(10, Math.floor(Math.log10(value)));
    return [1, 2, 5, 10].map(factor => factor * power).find(limit => limit >= value * 0.999);
}

/* An empty plot from 0 to limit: [svg, x(0 to 1), y(value)]. */
function plotFrame(limit, format, span, label) {
    const svg = svgElement('svg', {viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: 'img', 'aria-label': label});
    const x = part => PLOT.left + part * (PLOT.width - PLOT.left - PLOT.right);
    const y = value => PLOT.height - PLOT.bottom -
        value / limit * (PLOT.height - PLOT.top - PLOT.bottom);
    for (const part of [0, 0.5, 1]) {
        svg.append(svgElement('line', {x1: x(0), x2: x(1), y1: y(part * limit), y2: y(part * limit), 'class': 'grid'}),
                   svgElement('text', {x: PLOT.left - 4, y: y(part * limit) + 3, 'text-anchor': 'end'},
                              format(part * limit)));
    }
    svg.append(svgElement('text', {x: x(0), y: PLOT.height - 5}, span + ' ago'),
               svgElement('text', {x: x(1), y: PLOT.height - 5, 'text-anchor': 'end'}, 'now'));
    return [svg, x, y];
}

/* From one minute to longestMs, as far as there are points. */
function spanOf(points, longestMs) {
    const known = points.length > 0 ? points[points.length - 1][0] - points[0][0] : 0;
    return Math.min(Math.max(known, 60000), longestMs);
}

/* points: [[ms, {name: value or null}]...], of the last spanMs. */
function drawLines(place, points, names, spanMs, format, label) {
    const now = points.length > 0 ? points[points.length - 1][0] : Date.now();
    const values = points.flatMap(point => names.map(name => point[1][name])).filter(value => value > 0);
    const limit = niceLimit(Math.max(...values, 1e-9));
    const [svg, x, y] = plotFrame(values.length > 0 ? limit : 1, values.length > 0 ? format : () => '',
                                  age(spanMs / 1000), label);
    for (const name of names) {
        const known = points.filter(point => typeof point[1][name] === 'number').map(
            point => [x(1 - (now - point[0]) / spanMs), y(point[1][name])]);
        svg.append(svgElement('polyline', {points: known.map(pair => pair.join(',')).join(' '), 'class': name}));
        if (known.length > 0) {
            const last = known[known.length - 1];
            svg.append(svgElement('circle', {cx: last[0], cy: last[1], r: 2, 'class': name}));
        }
    }
    place.replaceChildren(svg);
}

/* counts: one number for each part of the span, the oldest first. */
function drawBars(place, counts, span, label) {
    const limit = niceLimit(Math.max(...counts, 2));
    const [svg, x, y] = plotFrame(limit, value => String(value), span, label);
    counts.forEach((count, i) => {
        if (count > 0) {
            svg.append(svgElement('rect', {x: x(i / counts.length), y: y(count), height: y(0) - y(count),
                                           width: (x(1) - x(0)) / counts.length * 0.8}));
        }
    });
    place.replaceChildren(svg);
}
