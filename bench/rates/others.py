"""Cases of what Tidegate is compared with, on the same machine in the same round: testpmd, Linux's TCP, dperf; and a
SYN flood, whose ceiling testpmd is."""
import pathlib
import random
import re
import statistics
import struct
import time

import figures
import tidegate
from world import Failed

SERVER_MAC = bytes.fromhex('025447000001')
CLIENT_MAC = bytes.fromhex('025447000002')


def testpmd(world, name, cpu, vdevs, mode, *words):
    """testpmd with one forwarding core, which prints its rates once a second until it is stopped."""
    memory = ['--in-memory', '--single-file-segments'] if world.huge else [
        '--no-huge', '--single-file-segments', '-m', 512]
    return world.start(
        name, 'dpdk-testpmd', '--lcores', f'0@({world.server_cpu},{world.client_cpu}),1@{cpu}', *memory, '--no-pci',
        '--no-telemetry', f'--file-prefix=rates-{name}', *(f'--vdev={v}' for v in vdevs), '--', '--nb-cores=1',
        f'--forward-mode={mode}', '--stats-period=1', '--total-num-mbufs=32768', '--rxd=1024', '--txd=1024',
        '--burst=64', *words)


def measure(world, sender, receiver):
    """Packets a second that came back to the sender."""
    # The link comes when it comes.
    end = time.monotonic() + 30
    while not any(figures.testpmd_periods(sender.out)[0]) and time.monotonic() < end and sender.popen.poll() is None:
        time.sleep(0.1)
    time.sleep(2 + world.seconds)
    for program in (sender, receiver):
        if program.popen.poll() is not None:
            raise Failed(f'testpmd ended: {program.why()}')
    sender.stop()
    receiver.stop()
    received, sent = figures.testpmd_rates(sender.out)
    if not received:
        raise Failed(f'no packet came back: {sender.why()}')
    return {'packets_per_s': received, 'sent_per_s': sent}


def ceiling(kind):
    """flowgen against macswap, 64 octets: what a program that does nothing carries over the device."""
    def case(world):
        server_device, client_device = tidegate.devices(world, kind)

        def macswap():
            program = testpmd(world, 'macswap', world.server_cpu, [server_device[0]], 'macswap')
            program.wait_for('packet forwarding', 30)
            return program

        def flowgen():
            program = testpmd(world, 'flowgen', world.client_cpu, [client_device[0]], 'flowgen', '--txpkts=64')
            program.wait_for('packet forwarding', 30)
            return program
        if 'role=server' in client_device[0]:
            client, server = flowgen(), macswap()
        else:
            server, client = macswap(), flowgen()
        result = measure(world, client, server)
        return {**result, 'connections_per_s_at_most': result['packets_per_s'] / 3}
    return case


def checksum(data):
    total = sum(struct.unpack(f'!{len(data) // 2}H', data))
    while total > 0xffff:
        total = (total & 0xffff) + (total >> 16)
    return total ^ 0xffff


def syn(rng):
    """A SYN of a stranger in 198.18.0.0/15 (for benchmarks, RFC 2544), with MSS, SACK permitted and window scale as
    Linux sends them without timestamps."""
    source, target = 0xc6120000 | rng.getrandbits(17), 0x0a000001
    tcp = struct.pack('!HHIIBBHHH12s', rng.randrange(1024, 65536), 80, rng.getrandbits(32), 0, 0x80, 0x02, 65535, 0, 0,
                      bytes.fromhex('020405b40101040201030307'))
    pseudo = struct.pack('!IIBBH', source, target, 0, 6, len(tcp))
    tcp = tcp[:16] + struct.pack('!H', checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack('!BBHHHBBHII', 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0, source, target)
    ip = ip[:10] + struct.pack('!H', checksum(ip)) + ip[12:]
    return SERVER_MAC + CLIENT_MAC + b'\x08\x00' + ip + tcp


def gateway_answer():
    """The ARP reply a server asks for that must send through 10.0.0.2."""
    return (SERVER_MAC + CLIENT_MAC + b'\x08\x06' + struct.pack('!HHBBH', 1, 0x0800, 6, 4, 2) + CLIENT_MAC +
            bytes([10, 0, 0, 2]) + SERVER_MAC + bytes([10, 0, 0, 1]) + bytes(18))


def flood_capture(path, syns=4095, seed=2026):
    """A capture file of random SYNs and one answer of the gateway, for net_pcap to send round and round."""
    rng = random.Random(seed)
    packets = [gateway_answer()] + [syn(rng) for _ in range(syns)]
    with open(path, 'wb') as out:
        out.write(struct.pack('=IHHiIII', 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for packet in packets:
            out.write(struct.pack('=IIII', 0, 0, len(packet), len(packet)) + packet)
    return path


def flood(world, answerer):
    """testpmd passes an endless capture of SYNs to memif on one core; what comes back is counted and thrown away."""
    server_device, client_device = tidegate.devices(world, 'memif-first')
    capture = flood_capture(world.folder / 'syns.pcap')
    if answerer == 'tidegate':
        server = tidegate.start_server(world, server_device, cookies='always', gateway='10.0.0.2',
                                       mac=':'.join(f'{b:02x}' for b in SERVER_MAC))
    else:
        server = testpmd(world, 'macswap', world.server_cpu, [server_device[0]], 'macswap')
        server.wait_for('packet forwarding', 30)
    client = testpmd(world, 'flood', world.client_cpu,
                     [client_device[0], f'net_pcap0,rx_pcap={capture},infinite_rx=1'], 'io')
    result = measure(world, client, server)
    if answerer == 'tidegate':
        counters = server.json()['groups'][0]
        result['cookies_sent'] = counters['tcp'].get('syn_cookies_sent')
        result['server_cycles_per_syn'] = counters['busy_cycles'] / max(1, counters['frames_in'])
        result['states_taken'] = counters['connections_left']
    return result


def kernel(world):
    """The kernel's TCP over veth between two namespaces; the same flow, the server closes first."""
    if not world.root:
        raise Failed('network namespaces need root')
    program = world.build / 'bench' / 'kernel' / 'kernel_tcp'
    for name in ('rates-server', 'rates-client'):
        world.run(f'netns-{name}', 'ip', 'netns', 'add', name)
    try:
        def inside(name, *words, **more):
            return world.run('set-up', 'ip', 'netns', 'exec', f'rates-{name}', *words, **more)
        world.run('veth', 'ip', 'link', 'add', 'tg1', 'netns', 'rates-server', 'type', 'veth', 'peer', 'name', 'tg0',
                  'netns', 'rates-client')
        for name, device, address in (('server', 'tg1', '10.0.0.1/8'), ('client', 'tg0', '10.0.0.2/8')):
            inside(name, 'ip', 'link', 'set', 'lo', 'up')
            inside(name, 'ip', 'addr', 'add', address, 'dev', device)
            inside(name, 'ip', 'link', 'set', device, 'up')
            inside(name, 'sysctl', '-qw', 'net.core.somaxconn=16384', 'net.ipv4.tcp_max_syn_backlog=16384',
                   'net.ipv4.tcp_max_tw_buckets=4000000', 'net.ipv6.conf.all.disable_ipv6=1')
        # Sources by the thousand without an address each.
        inside('client', 'ip', 'route', 'add', 'local', '10.1.0.0/16', 'dev', 'lo')
        inside('client', 'sysctl', '-qw', 'net.ipv4.ip_nonlocal_bind=1', 'net.ipv4.ip_local_port_range=1024 65535')

        def exec_in(name, cpu, *words):
            return world.start(f'kernel-{name}', 'ip', 'netns', 'exec', f'rates-{name}', 'taskset', '-c', cpu, program,
                               *words)

        def counter(which):
            text = inside('server', 'cat', f'/sys/class/net/tg1/statistics/{which}_packets')
            return int(text.out)

        def retransmitted(name):
            text = inside(name, 'cat', '/proc/net/snmp').out
            names, values = re.findall(r'^Tcp: (.*)$', text, re.MULTILINE)
            return int(dict(zip(names.split(), values.split()))['RetransSegs'])
        # Each side's kernel work follows its program: veth delivers on the sending core, so steer the receiver's share.
        for name, device, cpu in (('server', 'tg1', world.server_cpu), ('client', 'tg0', world.client_cpu)):
            inside(name, 'sh', '-c', f'echo {1 << cpu:x} > /sys/class/net/{device}/queues/rx-0/rps_cpus', wanted=None)
        server = exec_in('server', world.server_cpu, 'server', '10.0.0.1', 80)
        time.sleep(0.3)
        before = counter('rx') + counter('tx')
        client = exec_in('client', world.client_cpu, 'client', '10.0.0.1', 80, world.seconds, world.options.concurrency,
                         '10.1.0.1', 64)
        client.wait(world.seconds + 30, wanted=None)
        done = client.json()
        packets = counter('rx') + counter('tx') - before
        server.stop()
        served = server.json()
        return {'rate_per_s': done['rate_per_s'], 'errors': done['failed'] + served['failed'],
                'packets_per_connection': packets / max(1, done['closed']),
                'retransmits': retransmitted('server') + retransmitted('client'),
                'server_cpu_us_per_connection': served['cpu_seconds'] * 1e6 / max(1, served['served'])}
    finally:
        for name in ('rates-server', 'rates-client'):
            world.run(f'end-{name}', 'ip', 'netns', 'del', name, wanted=None)


# It climbs to its rate for ten seconds, the least it can be told.
DPERF_CLIMB_S = 10
DPERF = '''mode {mode}
cpu {cpu}
duration {duration}s
port net_memif000 {local} {peer}
{more}
protocol http
payload_size 128
socket_mem 1024
'''


def dperf(world, role):
    """dperf as one end, Tidegate as the other. dperf takes a device by a name of twelve letters and nothing more, so it
    runs on memif as it comes: in the client's role, at the abstract socket @/run/memif.sock, with 1,024 slots."""
    if not world.options.dperf:
        raise Failed('needs --dperf PROGRAM')
    if not world.huge:
        raise Failed('dperf needs huge pages, so root')
    program = pathlib.Path(world.options.dperf).resolve()
    program = next((p for p in (program, program / 'build' / 'dperf', program / 'dperf') if p.is_file()), None)
    if program is None:
        raise Failed(f'no dperf at {world.options.dperf}')
    vdev = ('net_memif0,role=server,id=0,rsize=10,socket-abstract=yes,socket=/run/memif.sock', 'net_memif0')
    if role == 'server':
        return dperf_serves(world, program, vdev)
    server = tidegate.start_server(world, vdev)
    config = world.write('dperf.conf', DPERF.format(
        mode='client', cpu=world.client_cpu, duration=world.seconds, local='10.0.0.2',
        peer='10.0.0.1', more='client 10.1.0.1 128\nserver 10.0.0.1 1\nlisten 80 1\nlaunch_num 8\n'
                              f'slow_start {DPERF_CLIMB_S}\n'
                              f'cps {world.options.dperf_rate}'))
    client = world.run('dperf', program, '-c', config, seconds=world.seconds + 90, wanted=None)
    server.stop()
    summary = server.json()
    group = summary['groups'][0]
    # The last of them have all the rate that was asked for.
    seconds = [n for n in tidegate.closed_each_second(server.err) if n > 0]
    full = seconds[DPERF_CLIMB_S:DPERF_CLIMB_S + world.seconds] or seconds
    if not full:
        raise Failed(f'no connection was closed: {client.why()}')
    return {'rate_per_s': statistics.median(full), 'best_second': max(seconds), 'retransmits': summary['retransmits'],
            'server_cycles_per_connection': group['busy_cycles'] / max(1, summary['closed']),
            'time_wait_held': group['time_wait_left'], **dperf_said(client.out)}


def dperf_serves(world, program, vdev):
    """`tidegate bench` goes first, since it has the memif server's role; it waits for the link,
    and its SYNs for dperf. dperf ends badly when its peer leaves, so what it printed until then is taken."""
    config = world.write('dperf.conf', DPERF.format(
        mode='server', cpu=world.server_cpu, duration=world.seconds + 60, local='10.0.0.1', peer='10.0.0.2',
        more='client 10.1.0.1 128\nserver 10.0.0.1 1\nlisten 80 1'))
    argv, _ = tidegate.bench_argv(world, vdev, sources='10.1.0.1+128', seconds=tidegate.PATIENCE_S + world.seconds)
    # The first SYNs are repeated every second until dperf is there, not at ever longer intervals.
    client = world.start('bench', *argv, '--set', 'tcp.rto_max_ms=1s', '--set',
                         'tcp.syn_retries=31', '--set', 'bench.connect_timeout_ms=60s',
                         cpus=(world.client_cpu, world.server_cpu))
    time.sleep(0.3)
    server = world.start('dperf', 'stdbuf', '-oL', program, '-c', config)
    end = time.monotonic() + tidegate.PATIENCE_S

    def answered():
        return [n for n in tidegate.closed_each_second(client.err) if n > 0]
    # dperf takes its time to begin.
    while len(answered()) < world.seconds + 2 and time.monotonic() < end and client.popen.poll() is None:
        time.sleep(0.2)
    client.stop()
    server.kill()
    summary = client.json()
    said = dperf_said(server.out)
    seconds = answered()
    if len(seconds) < 3:
        raise Failed(f'dperf answered for {len(seconds)} s only: {client.why()}')
    steady = tidegate.steady(world, client.err)
    result = {**tidegate.figures_of(summary), **steady, 'rate_per_s': steady['steady_per_s'], **said}
    ticks = sum(summary['groups'][0][key] for key in ('busy_cycles', 'idle_cycles')) / summary['seconds']
    if said['dperf_busy_percent']:
        result['server_cycles_per_connection'] = said['dperf_busy_percent'] / 100 * ticks / result['rate_per_s']
    return result


def dperf_said(output):
    """What dperf prints once a second: the most errors of a second, and its CPU's share while it had work."""
    errors = [int(v.replace(',', '')) for v in re.findall(r'\bskErr\s+([\d,]+)', output)]
    busy = [int(v) for v in re.findall(r'cpuUsage\s+(\d+)', output) if int(v) > 0]
    return {'dperf_errors': max(errors, default=None), 'dperf_busy_percent': statistics.median(busy) if busy else None}
