"""One page of what was measured, from the raw numbers in bench/results.

    bench/report.sh [FILE.json ..]      writes build/bench/report.html

Without files, the newest of each kind is taken: saturation-*.json of
bench/run.sh, outbox-*.json of bench/outbox/run.sh, k6-authorize-*.json of
bench/k6/run.sh. The page needs nothing else: its pictures are in it, and each
says how to read it. Ratios are those of one run; absolute numbers are of the
machine and the minute in which they were taken.
"""

import glob
import html
import io
import json
import os
import re
import statistics
import sys

import matplotlib

matplotlib.use('svg')

from matplotlib import pyplot, ticker                           # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
KINDS = ('saturation', 'outbox', 'k6-authorize')
PROCESSES = ('worker', 'helper', 'mariadbd', 'kafka')
PERCENTILES = (('p50_ms', 'p50'), ('p95_ms', 'p95'), ('p99_ms', 'p99'))

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>ngx_payment_module: what was measured</title>
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto;
       padding: 0 1em; color: #222; background: #fff }}
svg {{ max-width: 100%; height: auto }}
table {{ border-collapse: collapse }}
th, td {{ padding: .2em .8em; border-bottom: 1px solid #ccc; text-align: right }}
th:first-child, td:first-child {{ text-align: left }}
figure {{ margin: 2em 0 }}
</style>
<h1>What was measured</h1>
<p>{sources}. Compare ratios, which are of one run; absolute numbers are of the
machine and the minute. <code>bench/README.md</code> says how each was taken.</p>
{body}
</html>
"""


def newest(kind):
    files = glob.glob(os.path.join(HERE, 'results', f'{kind}-*.json'))

    return max(files, key=os.path.getmtime, default=None)


def kind_of(path):
    return next((kind for kind in KINDS
                 if os.path.basename(path).startswith(kind + '-')), None)


def median(runs, name):
    return statistics.median(run[name] for run in runs)


def clients_of(results):
    """[(clients, runs)], by the number of clients."""

    found = [(int(name[1:]), runs) for name, runs in results.items()
             if re.fullmatch(r'c\d+', name) and runs]

    return sorted(found)


def figure(draw, *arguments):
    """The picture that draw() makes on a pair of axes, as SVG."""

    plot, axes = pyplot.subplots(figsize=(8, 4))
    draw(axes, *arguments)
    axes.grid(alpha=.3)
    out = io.StringIO()
    plot.savefig(out, format='svg', bbox_inches='tight')
    pyplot.close(plot)

    return out.getvalue()[out.getvalue().index('<svg'):]


def section(title, words, content):
    return (f'<figure><h2>{html.escape(title)}</h2>{content}'
            f'<figcaption>{html.escape(words)}</figcaption></figure>')


# --- pictures

def throughput(axes, results):
    points = clients_of(results)
    axes.plot([n for n, _ in points], [median(r, 'rps') for _, r in points],
              marker='o', label='nginx, published')

    for name in ('batches published', 'single published'):
        if results.get(name):
            axes.axhline(median(results[name], 'rate'), linestyle='--',
                         color='grey')
            axes.text(points[0][0], median(results[name], 'rate'),
                      f' bare client, {name}', va='bottom')

    axes.set_xscale('log', base=2)
    axes.set_xticks([n for n, _ in points], [str(n) for n, _ in points])
    axes.set_xlabel('clients')
    axes.set_ylabel('payments a second')
    axes.set_ylim(bottom=0)
    axes.legend()


def latency(axes, results):
    points = clients_of(results)

    for name, label in PERCENTILES:
        axes.plot([median(r, 'rps') for _, r in points],
                  [median(r, name) for _, r in points], marker='o',
                  label=label)

    axes.set_xlabel('payments a second')
    axes.set_ylabel('ms')
    axes.set_yscale('log')

    for axis in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        axis(ticker.FormatStrFormatter('%g'))

    axes.legend()


def cpu(axes, results):
    points = clients_of(results)
    bottom = [0] * len(points)

    for process in PROCESSES:
        height = [statistics.median(
            sum(us for name, us in run['cpu_us'].items()
                if name.startswith(process)) for run in runs)
            for _, runs in points]
        axes.bar([str(n) for n, _ in points], height, bottom=bottom,
                 label=process)
        bottom = [a + b for a, b in zip(bottom, height)]

    axes.set_xlabel('clients')
    axes.set_ylabel('CPU, us a payment')
    axes.legend(loc='upper left', bbox_to_anchor=(1, 1))


def sizes(axes, results):
    empty = median(results['c64'], 'rps')
    rows = results['options']['preload']
    full = median(results['preloaded'], 'rps')

    axes.bar(['0', f'{rows:,}'], [1, full / empty])
    axes.set_xlabel('payments and keys in the tables before')
    axes.set_ylabel('payments a second, of those on empty tables')


def away(axes, outage):
    begin, end = outage['away_s']
    axes.plot([at for at, _ in outage['backlog_s']],
              [n for _, n in outage['backlog_s']])
    axes.axvspan(begin, end, alpha=.15, color='red', label='Kafka away')
    axes.set_xlabel('seconds')
    axes.set_ylabel('events that wait')
    axes.legend()


# --- tables

def table(head, rows):
    def line(cells, tag):
        return ('<tr>' + ''.join(f'<{tag}>{html.escape(str(cell))}</{tag}>'
                                 for cell in cells) + '</tr>')

    return ('<table>' + line(head, 'th')
            + ''.join(line(row, 'td') for row in rows) + '</table>')


def ratios(results):
    names = [n for n in results if n.startswith(('batches', 'single'))
             and results[n]]
    rows = []

    for clients, runs in clients_of(results):
        rate = median(runs, 'rps')
        rows.append([f'{clients} clients', f'{rate:,.0f}',
                     f'{median(runs, "p99_ms"):.1f}',
                     *(f'{rate / median(results[n], "rate"):.2f}'
                       for n in names)])

    return table(['', 'payments/s', 'p99 ms',
                  *(f'of bare {n}' for n in names)], rows)


def at_a_rate(k6):
    values = k6['k6']['http_req_duration']['values']

    return table(['', 'ms'], [[name, f'{values[name]:.2f}'] for name in
                              ('med', 'p(95)', 'p(99)', 'p(99.9)', 'max')])


# --- the page

def body(found):
    parts = []
    saturation = found.get('saturation')
    outbox = found.get('outbox')
    k6 = found.get('k6-authorize')

    if saturation:
        parts += [
            section('Beside what the machine can do',
                    'A bare C client with the same tables and statements and '
                    'no HTTP, in the same run: 1 would be a front door that '
                    'costs nothing. Read the published columns; the others '
                    'leave Kafka out.', ratios(saturation)),
            section('Throughput over clients',
                    'More clients share a commit, until the cores are full.',
                    figure(throughput, saturation)),
            section('Latency over throughput',
                    'Each point is a number of clients, from few to many, '
                    'who send as fast as they are answered.',
                    figure(latency, saturation)),
            section('CPU by process',
                    'Batches that grow make a payment cheaper for everybody.',
                    figure(cpu, saturation))]

        if saturation.get('preloaded'):
            parts.append(section(
                'Tables that are not empty',
                'Keys are random: their index wants to be in the buffer pool.',
                figure(sizes, saturation)))

    if k6:
        parts.append(section(
            f'At {k6["rate"]} a second', 'One authorization after the other, '
            'at a constant rate, whatever the answers take.', at_a_rate(k6)))

    if outbox and 'backlog_s' in outbox.get('outage', {}):
        parts.append(section(
            'Kafka away', 'Clients are answered all the while; what waits is '
            'published when Kafka is back.', figure(away, outbox['outage'])))

    return '\n'.join(parts)


def main():
    out, *paths = sys.argv[1:]
    found, sources = {}, []

    for path in paths or filter(None, map(newest, KINDS)):
        kind = kind_of(path)

        if kind is None:
            sys.exit(f'report: {path} is none of {", ".join(KINDS)}')

        with open(path) as file:
            found[kind] = json.load(file)
        sources.append(f'<code>{html.escape(os.path.basename(path))}</code>')

    if not found:
        sys.exit('report: there are no raw numbers in bench/results')

    with open(out, 'w') as page:
        page.write(PAGE.format(sources=', '.join(sources), body=body(found)))

    print(f'report: {out}')


if __name__ == '__main__':
    main()
