"""Cases with the program on devices: client and server one core each, the six-packet HTTP connection, server closes
first.

A case is a function of a World that returns a flat dictionary of figures."""
import re
import statistics

from world import Failed

# Four million connections a second for as long as a run lasts: nobody here opens more, and no tuple is used twice.
MOST_PER_S = 4_000_000
# How long a client waits for its server to come to the other end.
PATIENCE_S = 45
PORTS = 64_512

SERVE = '''
[eal]
vdevs = ["{vdev}"]
hugepages = "{huge}"
pci = false
file_prefix = "rates-server"
{server_args}
[port]
device = "{device}"
{port_more}
[workers]
cpus = "{cpu}"
idle = "poll"
populate = "start"
[limits]
connections = "64k"
time_wait = {time_wait}
[tcp]
syn_cookies = "{cookies}"
[[listen]]
port = 80
service = "web"
[service.web]
type = "http"
# Answers and closes, whatever the client would rather have.
keep_alive = false
'''

BENCH = '''
[eal]
vdevs = ["{vdev}"]
hugepages = "{huge}"
pci = false
file_prefix = "rates-client"
{client_args}
[port]
device = "{device}"
addresses = ["10.0.0.2/8"]
ranges = ["{sources}"]
[workers]
cpus = "{cpu}"
idle = "poll"
populate = "start"
[limits]
connections = "64k"
time_wait = "64k"
[bench]
target = "10.0.0.1:80"
concurrency = {concurrency}
duration_ms = "{seconds}s"
source_addresses = ["{sources}"]
'''


def devices(world, kind):
    """(server's vdev and device, client's vdev and device) over a socket of this world. `memif`: who serves has memif's
    role of a client and shares its packet buffers, so it starts second and copies nothing; `memif-copies`: the same,
    but with a copy for each packet; `memif-first`: copies, and who serves starts first."""
    socket = world.folder / f'{kind}.sock'
    if kind.startswith('memif'):
        roles = ('server', 'client') if kind == 'memif-first' else ('client', 'server')
        bits = world.options.memif_ring_bits
        server, client = (f'net_memif0,role={role},id=0,rsize={bits},socket-abstract=no,socket={socket}'
                          for role in roles)
        return (server + (',zero-copy=yes' if kind == 'memif' else ''), 'net_memif0'), (client, 'net_memif0')
    return ((f'net_vhost0,iface={socket},queues=1', 'net_vhost0'),
            (f'net_virtio_user0,path={socket},queues=1,queue_size=1024', 'net_virtio_user0'))


def connections_to_hold(world):
    """TIME-WAIT entries the server may need: bounded by the memory a run may take, a quarter of what there is."""
    return int(min(MOST_PER_S * world.seconds, world.options.memory_gib * 2**30 / 4 / 64))


def start_server(world, device, cookies='auto', gateway=None, mac=None):
    # With a gateway nobody else is on the link.
    port = ['addresses = ["10.0.0.1/24"]', f'gateway = "{gateway}"'] if gateway else ['addresses = ["10.0.0.1/8"]']
    if mac:
        port.append(f'mac = "{mac}"')
    config = world.write('serve.toml', SERVE.format(
        vdev=device[0], device=device[1], cpu=world.server_cpu, huge='on' if world.huge else 'off', cookies=cookies,
        port_more='\n'.join(port),
        time_wait=connections_to_hold(world), server_args='args = ["--single-file-segments"]'))
    server = world.start('serve', world.tidegate, 'serve', '-c', config, '--json',
                         cpus=(world.server_cpu, world.client_cpu))
    server.wait_for('listening on', 60)
    return server


def bench_argv(world, device, rate=0, concurrency=None, sources=None, seconds=None):
    sources = sources or f'10.1.0.0+{MOST_PER_S * world.seconds // PORTS + 1}'
    config = world.write('bench.toml', BENCH.format(
        vdev=device[0], device=device[1], cpu=world.client_cpu, huge='on' if world.huge else 'off', sources=sources,
        concurrency=concurrency or world.options.concurrency, seconds=seconds or world.seconds,
        client_args='args = ["--single-file-segments"]'))
    return (world.tidegate, 'bench', '-c', config, '--json', '--rate', int(rate), '--set',
            f'port.link_wait_ms={PATIENCE_S}s'), sources


def run_both(world, kind, **how):
    """(client's summary and what it said, server's summary and what it said, sources)."""
    server_device, client_device = devices(world, kind)
    argv, sources = bench_argv(world, client_device, **how)

    def start_client():
        return world.start('bench', *argv, cpus=(world.client_cpu, world.server_cpu))
    if 'role=server' in client_device[0]:
        client = start_client()
        client.wait_for('waiting for the peer', PATIENCE_S)
        server = start_server(world, server_device)
    else:
        server = start_server(world, server_device)
        client = start_client()
    # Failures are figures here; the program's exit code 1 tells of them.
    client.wait(world.seconds + 60, wanted=None)
    if client.popen.returncode not in (0, 1):
        raise Failed(client.why())
    server.stop()
    return client.json(), client.err, server.json(), server.err, sources


def figures_of(summary, server=None, said='', sources=''):
    """What TARGETS demands to be told with a rate, from the client's summary and the server's."""
    groups = {g['name']: g for g in summary['groups'] + (server['groups'] if server else [])}
    figures = {
        'rate_per_s': summary['rate_per_s'],
        'packets_per_connection': summary['packets_per_connection'],
        'retransmits': summary['retransmits'] + (server['retransmits'] if server else 0),
        'errors': sum(summary['failures'].values()),
        'p50_us': summary['latency_ns']['connection']['p50'] / 1e3,
        'p99_us': summary['latency_ns']['connection']['p99'] / 1e3,
        'tuples': int(sources.split('+')[1]) * PORTS if sources else None,
    }
    for name in ('server', 'client'):
        group = groups.get(name)
        if not group or not summary['closed']:
            continue
        # In busy-polling, what a worker spends without work is idle.
        figures[f'{name}_cycles_per_connection'] = group['busy_cycles'] / summary['closed']
        if group['busy_cycles'] + group['idle_cycles']:
            figures[f'{name}_busy_share'] = group['busy_cycles'] / (group['busy_cycles'] + group['idle_cycles'])
    if 'server' in groups:
        figures['time_wait_held'] = groups['server']['time_wait_left']
        figures['time_wait_skipped'] = groups['server']['tcp'].get('time_wait_skipped')
    checksums = re.search(r'server: port .*?checksums ([^,]+, tx [^,]+)', said)
    figures['checksums'] = checksums.group(1) if checksums else 'as the summary says'
    if summary['problems'] and summary['closed'] == 0:
        raise Failed('; '.join(summary['problems']))
    return figures


def closed_each_second(said):
    """Connections closed in each second, from the live lines of a server or client."""
    totals = [int(n.replace(',', '')) for n in re.findall(r'^ *\d+ s  opened .*?closed +([\d,]+) ', said, re.MULTILINE)]
    return [after - before for before, after in zip([0, *totals], totals)]


def steady(world, said):
    """Of a client's live lines: the median of its last seconds without the first, and its CPU's share meanwhile."""
    busy = [int(n) for n in re.findall(r'^ *\d+ s  opened .* busy client (\d+)%', said, re.MULTILINE)]
    seconds = [pair for pair in zip(closed_each_second(said), busy) if pair[0] > 0][1:][-world.seconds:]
    if not seconds:
        return {}
    return {'steady_per_s': statistics.median(n for n, _ in seconds),
            'client_busy_share': statistics.median(share for _, share in seconds) / 100}


def over(kind):
    def case(world):
        # One second more than is looked at: the first is not.
        summary, said, ended, server_said, sources = run_both(world, kind, seconds=world.seconds + 1)
        return {**figures_of(summary, ended, server_said, sources), **steady(world, said)}
    return case


def ring(world):
    """Both in one process over net_ring, a core each: `tidegate demo`."""
    demo = world.run('demo', world.tidegate, 'demo', '--json', '--seconds', world.seconds, '--concurrency',
                     world.options.concurrency, seconds=world.seconds + 60, wanted=None,
                     cpus=(world.server_cpu, world.client_cpu))
    if demo.popen.returncode not in (0, 1):
        raise Failed(demo.why())
    return figures_of(demo.json(), None, demo.err)


def overload(world):
    """memif, offered twice what it carried in this round: the rate must stay, nothing may be lost but time."""
    best = world.options.last.get('memif', {}).get('steady_per_s')
    if not best:
        with world.another() as other:
            best = over('memif')(other)['steady_per_s']
    summary, said, ended, server_said, sources = run_both(world, 'memif', rate=2 * best, concurrency=16_384,
                                                          seconds=world.seconds + 1)
    figures = {**figures_of(summary, ended, server_said, sources), **steady(world, said)}
    return {'offered_per_s': 2 * best, 'kept_of_best': figures['steady_per_s'] / best, **figures}
