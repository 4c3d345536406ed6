#!/usr/bin/env python3
"""Runs the cases round by round (A, B, C, A, B, C, ...), so that what drifts on a shared machine drifts for all of
them, and reports medians, spreads and ratios within the rounds. scripts/rates.sh builds and starts it."""
import argparse
import datetime
import functools
import json
import os
import pathlib
import subprocess
import sys
import time

import draw
import figures
import others
import paths
import tidegate
from world import Failed, INSIDE, World, hardware_counters, huge_pages, machine

EVERY = 1_000_000
# What rates.sh asks for before it builds anything.
ARGUMENTS_ARE_GOOD = 10
# name: (what runs, in how many rounds at most, what it is). growth brings what it is compared with along.
CASES = {
    'memory': (paths.memory, EVERY, 'server shard alone, frames in memory, no device'),
    'ring': (tidegate.ring, EVERY, 'net_ring in one process'),
    'memif': (tidegate.over('memif'), EVERY, 'net_memif, two processes, no copies at the server'),
    # Beside what it is compared with: minutes later the same machine may carry half or twice as much.
    'overload': (tidegate.overload, EVERY, 'net_memif, offered twice its best'),
    'memif-copies': (tidegate.over('memif-copies'), EVERY, 'the same with a copy of each packet, as dperf has it'),
    'dperf-server': (functools.partial(others.dperf, role='server'), EVERY, 'dperf serves `tidegate bench`, net_memif'),
    'vhost': (tidegate.over('vhost'), EVERY, 'net_vhost and net_virtio_user, two processes'),
    'kernel': (others.kernel, EVERY, "Linux's TCP over veth, epoll server and client"),
    'dperf-client': (functools.partial(others.dperf, role='client'), EVERY, 'dperf loads `tidegate serve`, net_memif'),
    'testpmd-memif': (others.ceiling('memif'), EVERY, 'testpmd flowgen and macswap, 64 octets, net_memif'),
    'testpmd-vhost': (others.ceiling('vhost'), EVERY, 'the same over net_vhost and net_virtio_user'),
    'flood': (functools.partial(others.flood, answerer='tidegate'), EVERY, 'SYNs answered with cookies, net_memif'),
    'flood-ceiling': (functools.partial(others.flood, answerer='testpmd'), EVERY, 'the same SYNs, testpmd macswap'),
    'latency': (paths.latency, EVERY, 'added by the server at half of its best rate'),
    'overload-memory': (paths.overload, 2, 'server shard alone, offered 50 to 300% of its best, frames in memory'),
    'growth': (paths.growth, 2, 'rate with others standing in memory'),
    'stages': (paths.stages, 1, 'instructions and cache lines by stage (callgrind)'),
    'shards': (paths.shards, 1, 'instructions per connection, 1 to 8 shards (callgrind)'),
}
RATIOS = (
    ('memif to kernel', 'memif', 'kernel', 'rate_per_s'),
    ('memif to dperf, same client', 'memif', 'dperf-server', 'steady_per_s'),
    ('memif with copies to dperf, same client', 'memif-copies', 'dperf-server', 'steady_per_s'),
    ("server's cycles, memif to dperf's", 'memif', 'dperf-server', 'server_cycles_per_connection'),
    ("server's cycles, memif with copies to dperf's", 'memif-copies', 'dperf-server', 'server_cycles_per_connection'),
    ('vhost to memif', 'vhost', 'memif', 'rate_per_s'),
    ('SYN-ACKs to macswap, memif', 'flood', 'flood-ceiling', 'packets_per_s'),
)
FLOW = ('SYN, SYN-ACK, ACK+GET, data+FIN, FIN+ACK, ACK; the server closes first and holds TIME-WAIT for 2MSL = 60 s. '
        'SYN options of `tidegate bench`: MSS, window scale, SACK permitted, timestamps; without a device: the same '
        'without timestamps, but for overload-memory. Checksums in software where a device has none')


def say(text):
    print(f'rates: {text}', file=sys.stderr, flush=True)


def parse():
    parser = argparse.ArgumentParser(prog='rates.sh', description=__doc__)
    parser.add_argument('--build', type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument('--profiled', action='store_true', help='the build of scripts/profiled.sh (read by rates.sh)')
    parser.add_argument('--quick', action='store_true', help='a round of a few seconds each, to see that all works')
    parser.add_argument('--only', action='append', choices=CASES, metavar='NAME',
                        help=f'one case; may be repeated: {" ".join(CASES)}')
    parser.add_argument('--json', type=pathlib.Path, metavar='FILE', help='write the results there')
    parser.add_argument('--svg', type=pathlib.Path, metavar='FILE', help='draw the growth curves there')
    parser.add_argument('--rounds', type=int, help='how often each case is measured (5; quick: 1)')
    parser.add_argument('--seconds', type=int, help='how long each load lasts (5; quick: 2)')
    parser.add_argument('--cpus', default='', metavar='A,B', help='CPUs of the server and of the client')
    parser.add_argument('--concurrency', type=int, default=512, help='connections at once (512)')
    parser.add_argument('--memif-ring-bits', type=int, default=10,
                        help='memif rings have 2 to this many slots (10, which dperf always has)')
    parser.add_argument('--hugepages', type=int, default=2048, metavar='MB', help='reserve for DPDK; 0: ordinary pages')
    parser.add_argument('--dperf', metavar='PROGRAM', help='compare with this dperf too')
    parser.add_argument('--dperf-rate', default='3m', help="connections a second dperf's client offers (3m)")
    options = parser.parse_args()
    for where in (options.json, options.svg):
        if where and (where.is_dir() or not where.resolve().parent.is_dir()):
            parser.error(f'{where}: nothing can be written there; name a file in a folder that exists')
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (2 if options.quick else 5)
    options.memory_gib = machine()['memory_gib']
    options.say = say
    options.last = {}
    return options


def pick_cpus(text):
    allowed = sorted(os.sched_getaffinity(0))
    chosen = [int(c) for c in text.split(',')] if text else allowed[-2:]
    if len(chosen) != 2 or chosen[0] == chosen[1] or not set(chosen) <= set(allowed):
        sys.exit('rates: two CPUs are needed, one for the server and one for the client')
    return chosen


def measure(name, world):
    """The figures of one run of one case, or None, and why not."""
    start = time.monotonic()
    try:
        with world:
            figures_now = CASES[name][0](world)
    except (Failed, OSError, KeyError, IndexError, ValueError, subprocess.SubprocessError) as why:
        say(f'{name}: not measured: {type(why).__name__}: {why}')
        return None, f'{type(why).__name__}: {why}'
    headline = ', '.join(f'{k} {figures.si(figures_now[k])}' for k in
                         ('rate_per_s', 'packets_per_s', 'p99_us', 'instructions', 'server_cycles_per_connection',
                          'retransmits', 'errors') if figures_now.get(k) is not None)
    say(f'{name}: {headline or "done"} ({time.monotonic() - start:.0f} s)')
    return figures_now, None


def run_rounds(names, options, cpus, huge):
    rounds, troubles = [], {}
    for number in range(options.rounds):
        say(f'round {number + 1} of {options.rounds}')
        rounds.append({})
        for name in names:
            if number >= CASES[name][1]:
                continue
            world = World(options.build, cpus, options.seconds, options.quick, huge, options)
            rounds[-1][name], trouble = measure(name, world)
            if trouble:
                troubles[name] = trouble
            else:
                options.last[name] = rounds[-1][name]
    return rounds, troubles


def table(report):
    lines = []
    for name, result in report['cases'].items():
        lines.append(f'\n{name}: {CASES[name][2]}')
        for key, figure in result.items():
            if isinstance(figure, dict):
                spread = f'  ± {figure["spread"]:.0%}' if len(figure['values']) > 1 else ''
                lines.append(f'  {key.replace("_", " "):46} {figures.si(figure["median"]):>10}{spread}')
            else:
                lines.append(f'  {key.replace("_", " "):46} {figure}')
    if report['ratios']:
        lines.append('\nratios within the rounds')
        for name, figure in report['ratios'].items():
            lines.append(f'  {name:46} {figure["median"]:>10.3f}  ± {figure["spread"]:.0%}')
    for name, why in report['not_measured'].items():
        lines.append(f'\nnot measured: {name}: {why.splitlines()[0]}')
    return '\n'.join(lines)


def main():
    options = parse()
    if os.environ.get('TIDEGATE_RATES_PARSE'):
        return ARGUMENTS_ARE_GOOD
    cpus = pick_cpus(options.cpus)
    names = options.only or [n for n in CASES if options.dperf or not n.startswith('dperf')]
    # In the order of the table, so that what is compared stands side by side in time.
    names = [n for n in CASES if n in names]
    counters = hardware_counters()
    with huge_pages(options.hugepages) as huge:
        say(f'cases {" ".join(names)}; server on CPU {cpus[0]}, client on CPU {cpus[1]}, '
            f'{"huge" if huge else "ordinary"} pages, hardware counters: {"yes" if counters else "none here"}')
        rounds, troubles = run_rounds(names, options, cpus, huge)
    ratios = {}
    for name, above, below, key in RATIOS:
        middle, spread = figures.ratio(rounds, above, below, key)
        if middle is not None:
            ratios[name] = {'median': middle, 'spread': spread}
    at_most = figures.median_and_spread([3 * r['memif']['rate_per_s'] / r['testpmd-memif']['packets_per_s']
                                         for r in rounds if r.get('memif') and r.get('testpmd-memif')])
    if at_most[0] is not None:
        ratios['memif to the ceiling of testpmd'] = {'median': at_most[0], 'spread': at_most[1]}
    report = {
        'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        'command': 'scripts/rates.sh ' + ' '.join(sys.argv[1:]).replace(f'--build {options.build}', '').strip(),
        'machine': {**machine(), 'huge_pages': huge, 'hardware_counters': counters},
        'flow': FLOW, 'rounds': options.rounds, 'seconds': options.seconds, 'concurrency': options.concurrency,
        'cases': figures.summarise(rounds), 'ratios': ratios, 'not_measured': troubles,
    }
    print(f'{report["date"]}, {report["machine"]["cpu"]}, {report["machine"]["cpus"]} CPUs, DPDK '
          f'{report["machine"]["dpdk"]}, Linux {report["machine"]["kernel"]}\n{report["command"]}\n{FLOW}')
    print(table(report), flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + '\n')
    if options.svg and 'growth' in report['cases']:
        draw.draw(report['cases']['growth'], options.svg.resolve())
    return 1 if troubles else 0


if __name__ == '__main__':
    if INSIDE not in os.environ and 'TIDEGATE_RATES_PARSE' not in os.environ:
        say('started without scripts/rates.sh: no namespaces of our own')
    sys.exit(main())
