"""From single measurements to what is reported: median, spread, ratios within a round; and reading what testpmd and
callgrind write. Everything here is pure, and rates_test.py holds it."""
import re
import statistics


def median_and_spread(values):
    """(median, spread): spread is the distance of the furthest value but one fifth of them from the median, as a
    share of it: a shared machine always has its one bad run. With fewer than five values none is left out."""
    values = [v for v in values if v is not None]
    if not values:
        return None, None
    middle = statistics.median(values)
    distances = sorted(abs(v - middle) for v in values)
    kept = distances[:len(distances) - len(distances) // 5]
    return middle, (kept[-1] / abs(middle) if middle else 0.0)


def ratio(rounds, above, below, key):
    """Median and spread of `above`'s figure to `below`'s within each round; (None, None) when none has both."""
    return median_and_spread([r[above][key] / r[below][key] for r in rounds
                              if (r.get(above) or {}).get(key) is not None and (r.get(below) or {}).get(key)])


def summarise(rounds):
    """{case: {figure: {"median", "spread", "values"}}} from [{case: {figure: number}}], one dictionary a round. Text
    and truth values are taken from the last round."""
    summary = {}
    for name in dict.fromkeys(name for r in rounds for name in r):
        results = [r[name] for r in rounds if r.get(name)]
        figures = {}
        for key in dict.fromkeys(key for result in results for key in result):
            values = [result[key] for result in results if result.get(key) is not None]
            if values and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
                middle, spread = median_and_spread(values)
                figures[key] = {'median': middle, 'spread': spread, 'values': values}
            elif values:
                figures[key] = values[-1]
        if figures:
            summary[name] = figures
    return summary


def testpmd_periods(output, port=0):
    """([received], [sent]) packets a second of a port, one each for every period testpmd printed."""
    received, sent, current = [], [], None
    for line in output.splitlines():
        head = re.search(r'NIC statistics for port (\d+)', line)
        if head:
            current = int(head.group(1))
        rate = re.match(r'\s*([RT])x-pps:\s+(\d+)', line)
        if rate and current == port:
            (received if rate.group(1) == 'R' else sent).append(int(rate.group(2)))
    return received, sent


def testpmd_rates(output, port=0):
    """(received, sent) packets a second of a port: medians over the periods from the first in which it received; the
    first and the last of these are cut, as they are not whole."""
    received, sent = testpmd_periods(output, port)
    first = next((i for i, rate in enumerate(received) if rate > 0), len(received))
    middle = [statistics.median(v[first + 1:-1]) if len(v) > first + 2 else None for v in (received, sent)]
    return middle[0], middle[1]


# Files of the fast path by stage; the first that fits counts. Inlined code stays in the file it was written in.
STAGES = (
    ('checksums', r'lib/wire/checksum'),
    ('encode', r'lib/wire/encode'),
    ('decode', r'lib/wire/'),
    ('look-up', r'lib/table/|lib/base/(sip)?hash'),
    ('timers', r'lib/timer/|lib/tcp/(loss_)?timers'),
    ('service', r'lib/service/|lib/stack/service|bench/stack/bench_shard'),
    ('state machine', r'lib/tcp/|lib/base/seq_num'),
    ('pipeline', r'lib/stack/|lib/base/|bench/stack/server_bench'),
)


def stage_of(file, function_file):
    """The stage of an instruction written in `file` and inlined into a function of `function_file`. Code of the
    standard library belongs to whoever had it inlined; copying and clearing by the C library is a stage of its own."""
    for where in (file, function_file):
        for stage, pattern in STAGES:
            if re.search(pattern, where):
                return stage
    return 'C library'


def callgrind_stages(text):
    """{stage: {event: count}} of a callgrind output file: own cost of each line, by the file it was written in."""
    names, events, stages = {}, [], {}
    file = function_file = ''
    skip = False
    for line in text.splitlines():
        if line.startswith('events:'):
            events = line.split()[1:]
            continue
        spec = re.match(r'(c?)(fl|fi|fe|fn|ob|cfi|cfl|cfn|cob)=\((\d+)\)(?: (.*))?$', line)
        if spec:
            kind = spec.group(1) + spec.group(2)
            # One numbering for files, one for functions, one for objects, whichever line names them first.
            space = {'n': 'function', 'b': 'object'}.get(kind[-1], 'file')
            if spec.group(4) is not None:
                names[space, spec.group(3)] = spec.group(4)
            if kind in ('fl', 'fi', 'fe'):
                file = names.get((space, spec.group(3)), '')
                if kind == 'fl':
                    function_file = file
            continue
        if line.startswith('calls='):
            # The next line is what the call cost inside, which the callee's own lines count.
            skip = True
            continue
        if not re.match(r'[+\-*\d]', line):
            continue
        if skip:
            skip = False
            continue
        costs = [int(word) for word in line.split()[1:]]
        mine = stages.setdefault(stage_of(file, function_file), dict.fromkeys(events, 0))
        for event, cost in zip(events, costs):
            mine[event] += cost
    return stages


def per_connection(more, less, connections):
    """{stage: {event: count for one connection}} from two runs that differ by `connections`: set-up cancels out."""
    return {stage: {event: (count - less.get(stage, {}).get(event, 0)) / connections for event, count in counts.items()}
            for stage, counts in more.items()}


def si(value, digits=3):
    """A number as people read it: 1234567 as 1.23 M."""
    if value is None:
        return '-'
    for factor, unit in ((1e9, ' G'), (1e6, ' M'), (1e3, ' k')):
        if abs(value) >= factor:
            return f'{value / factor:.{digits}g}{unit}' if abs(value) < 1000 * factor else f'{value / factor:.0f}{unit}'
    return f'{value:.{digits}g}' if abs(value) < 100 else f'{value:.0f}'
